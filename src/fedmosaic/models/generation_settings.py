"""Read and clear the settings of generation that come with a model."""

from __future__ import annotations

from typing import Any


def own_stops(model: Any) -> list[int]:
    """Return the model's own end tokens."""
    own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    return list(own) if isinstance(own, list) else [own] if own is not None else []


def clear_generation_settings(model: Any) -> None:
    """Leave out settings of generation that come with a model: answers are decoded greedily.

    Transformers would take each setting that a call does not name (sampling, a penalty for
    repetition) from the model.
    """
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig()
