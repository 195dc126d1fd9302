"""Render the pictures of the miniature world, and list its words."""
