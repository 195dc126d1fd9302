"""Measure federations across machines: kills, faults, and the time and bytes of a round."""
