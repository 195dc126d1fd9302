"""Render the pictures of the miniature world."""
