"""Alignment: which token and layer of one model answers to which of another, and A and B that mean the same in both."""
