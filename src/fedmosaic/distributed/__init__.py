"""Run a federation whose clients are at other sites: the protocol, over any transport."""
