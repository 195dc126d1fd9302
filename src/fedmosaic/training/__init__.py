"""Local training: the loss on answers, optimiser groups, schedules and the loop."""
