"""Run federations on the frameworks of others."""
