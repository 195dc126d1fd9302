"""Refuse examples that a model cannot take."""

from __future__ import annotations

from typing import Any

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.encoding import Encoded

_CONTEXT = ("max_position_embeddings", "max_seq_len")


def context_length(text_config: Any) -> int | None:
    """Return the most tokens that a language model takes; None: it has no limit."""
    found = (getattr(text_config, name, None) for name in _CONTEXT)
    return next((int(length) for length in found if length), None)


def check_limits(
    example: Example,
    encoded: Encoded,
    model: str,
    longest: int | None,
    rows: int,
    image_token: int | None,
) -> None:
    """Refuse an example that is too long, or holds a token that the model does not know.

    Args:
        example: The example.
        encoded: The same, encoded.
        model: Name of the model, for messages.
        longest: Most tokens that the model takes; None: it has no limit.
        rows: Rows of its token embedding.
        image_token: Token at the place of an image, which needs no row; None for a text-only model.

    Raises:
        DataError: the example is refused.
    """
    if longest and len(encoded.input_ids) > longest:
        raise DataError(
            f"example {example.id!r} has {len(encoded.input_ids)} tokens; {model} takes at most "
            f"{longest}: shorten it or leave it out"
        )
    highest = max(encoded.input_ids, default=0)
    if highest >= rows and highest != image_token:
        raise DataError(
            f"example {example.id!r} holds the token {highest}, which {model} has no embedding for "
            f"({rows} rows): its text has a special token of the tokenizer; take it out"
        )
