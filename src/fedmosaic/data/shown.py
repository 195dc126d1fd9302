"""Describe examples for a person or a program: what a run would learn from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fedmosaic.data.example import Example
from fedmosaic.data.image import Image, StoredImage
from fedmosaic.data.records import RecordLocation


@dataclass
class ShownItem:
    """Hold an item as it is shown.

    Attributes:
        example: the example.
        location: its file and position; None where it is of no file.
        source: name of the file or task.
        index: position in the file or task, from 0.
        split: ``"train"`` or ``"test"``; empty where a file is shown as a whole.
        metric: score of an answer to it.
        encoded: with a model its tokens, see :func:`fedmosaic.show_data`.
    """

    example: Example
    location: RecordLocation | None
    source: str
    index: int
    split: str = ""
    metric: str = "accuracy"
    encoded: dict[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Return ``"choice"`` if the item has options, else ``"open"``."""
        return "choice" if self.example.options else "open"

    def to_json(self) -> dict[str, Any]:
        """Return the item as JSON values."""
        example = self.example
        return {
            "id": example.id,
            "file": self.source,
            "index": self.index,
            **({"split": self.split} if self.split else {}),
            "kind": self.kind,
            "metric": self.metric,
            "turns": [{"role": turn.role, "text": turn.text} for turn in example.turns],
            "images": [describe_image(image) for image in example.images],
            "options": list(example.options) or None,
            "answer": example.answer,
            "learned": [turn.learned for turn in example.turns if turn.role == "assistant"],
            **self.encoded,
        }


def describe_image(image: Image) -> dict[str, Any]:
    """Return path, width, height and mean RGB of an image; the path is null without a file."""
    pixels = np.asarray(image.load(), dtype=np.float64)
    height, width = pixels.shape[:2]
    mean = [round(float(value), 3) for value in pixels.reshape(-1, 3).mean(axis=0)]
    source = image.source
    path = source.name if isinstance(source, StoredImage) else source
    known = str(path) if isinstance(path, Path | str) else None
    return {"path": known, "width": width, "height": height, "mean": mean}


def metric_of(examples: Sequence[Example], example: Example) -> str:
    """Return the score of an answer to an example among the examples of its file.

    It is the accuracy where there are options. Other answers are scored by token F1 if any example
    of the file has images, and by ROUGE-L otherwise.
    """
    if example.options:
        return "accuracy"
    return "f1" if any(other.images for other in examples) else "rouge_l"
