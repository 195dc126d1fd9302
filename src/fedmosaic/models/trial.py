"""Try on a few fixed texts whether a model may take batches of another form.

It may if it gives the same numbers. The texts do not depend on a run's data, so that every process
decides the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from fedmosaic.data.example import Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import Encoded

TEXTS = (
    ("What is the capital of France?", "Paris"),
    ("What is the capital of France?", "the city of Lyon"),
    ("What is the capital of a country that you know well?", "Rome"),
)
"""Two questions begin alike, two are the same; their lengths differ."""

WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""Settings of models in which a token attends to the last tokens only."""

ROUNDING = 5e-5
"""Relative difference that float32 sums in another order may make; Gemma 3 of 270M has 1.2e-5."""

ERRORS = (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError)
"""Errors of a model that cannot take such a batch."""


def trial_items(backbone: Backbone, images: bool) -> list[Encoded]:
    """Return the fixed texts as a model encodes them.

    Args:
        backbone: the model.
        images: whether an image comes first.
    """
    picture = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3)
    pictures = [Image((picture * factor % 251).astype(np.uint8)) for factor in (7, 13)]
    return [
        backbone.encode(
            Example(
                f"trial {number}",
                (Turn("user", "<image>\n" * images + question), Turn("assistant", answer)),
                (pictures[number // 2],) if images else (),
            )
        )
        for number, (question, answer) in enumerate(TEXTS)
    ]


def tolerance(backbone: Backbone) -> float:
    """Return the relative difference of numbers that are the same but for rounding."""
    return max(ROUNDING, 8 * torch.finfo(backbone.dtype).eps)


def fits_windows(backbone: Backbone, items: Sequence[Encoded]) -> bool:
    """Return whether items are no longer than any window of the model's attention."""
    windows = [getattr(backbone.text_config, name, None) for name in WINDOWS]
    longest = max(len(item.input_ids) for item in items)
    return not any(isinstance(window, int) and 0 < window < longest for window in windows)
