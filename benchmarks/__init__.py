"""Measure fedmosaic: accuracy of the algorithms, and what they cost."""
