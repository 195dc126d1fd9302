"""Fit A and B in closed form, from one pass over the public data."""
