"""Comparisons: many runs side by side, settings chosen on a validation split, and what came of it."""
