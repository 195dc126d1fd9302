"""Load Hugging Face models and encode examples for them."""
