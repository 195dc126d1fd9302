"""Personalised federated learning across heterogeneous vision-language models."""
