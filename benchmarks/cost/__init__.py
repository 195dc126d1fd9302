"""Measure time, memory and counted operations, and that a killed run resumes."""
