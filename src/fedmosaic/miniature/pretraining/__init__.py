"""Pretrain the bundled miniature models."""
