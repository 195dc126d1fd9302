"""Align models on different machines: publish the pivot, align every other model locally."""
