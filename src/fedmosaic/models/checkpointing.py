"""Recompute activations in the backward pass instead of storing them."""

from __future__ import annotations

from typing import Any

from fedmosaic.errors import ModelError


def recompute_activations(name: str, model: Any) -> None:
    """Turn on gradient checkpointing for a Transformers model.

    The variant without re-entrance needs no inputs with gradients, so that neither frozen
    embeddings nor image features have to have any.

    Raises:
        ModelError: the model's family has no gradient checkpointing.
    """
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise ModelError(
            f"model {name!r} ({type(model).__name__}) has no gradient checkpointing in "
            "transformers: use models.gradient_checkpointing: false"
        )
    settings = {"use_reentrant": False}
    if hasattr(model, "activation_checkpointing_enable"):
        model.activation_checkpointing_enable(activation_checkpointing_kwargs=settings)
    else:  # transformers before it was renamed
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)
    if getattr(model, "_require_grads_hook", None) is not None:
        model.disable_input_require_grads()
