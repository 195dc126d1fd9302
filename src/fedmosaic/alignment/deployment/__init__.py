"""Align models on different machines: publish the pivot once, align every other model where it is."""
