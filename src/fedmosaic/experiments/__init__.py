"""Compare algorithms: variants, seeds, sweeps, budgets, statistics and fast adaptation."""
