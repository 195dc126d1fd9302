"""Pretrain the miniature models that come with the package."""
