"""Build the miniature world: small LLaVA models, their pretraining, and a rendered benchmark."""
