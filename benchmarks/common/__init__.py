"""Share what all benchmarks need: where results are, tables, claims and their verdicts."""
