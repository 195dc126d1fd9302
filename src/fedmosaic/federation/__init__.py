"""Run a federation: messages on the wire, clients, the round loop, checkpoints, run folders."""
