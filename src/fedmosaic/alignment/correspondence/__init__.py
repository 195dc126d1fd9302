"""Match tokens and layers of different models."""
