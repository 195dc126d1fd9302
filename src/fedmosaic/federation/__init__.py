"""The federation: messages on the wire, client and server, the round loop, checkpoints and run folders."""
