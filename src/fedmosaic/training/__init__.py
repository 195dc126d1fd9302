"""Train adapters locally: losses, optimiser groups, schedules and the loop."""
