"""Check all items of tasks without a model: list what is wrong, and count what there is."""
