"""The miniature world: small real LLaVA models, their tokenizers, and the pretraining that makes their weights."""
