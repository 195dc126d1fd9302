"""Run a federation with Flower. Only this package imports ``flwr``, and not before it is used."""
