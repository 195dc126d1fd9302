"""Batch prompts for evaluation, and show each batch to models that depend on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone, Batch


@runtime_checkable
class PreparedModel(Protocol):
    """Describe a model that must see every batch before it is run on it."""

    def prepare(self, batch: Batch) -> None:
        """Adapt the model to a batch of prompts, which may be followed by labelled answers."""


def prepare(model: Any, batch: Batch) -> None:
    """Show a batch to the model, if it is a :class:`PreparedModel`."""
    if isinstance(model, PreparedModel):
        model.prepare(batch)


def prompt_batches(
    backbone: Backbone, examples: Sequence[Example], size: int
) -> Iterator[tuple[list[int], Batch]]:
    """Yield batches of prompts of similar length, with the indices of their examples."""
    encoded = [backbone.encode(example, answer=False) for example in examples]
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].input_ids))
    for start in range(0, len(order), size):
        part = order[start : start + size]
        yield part, backbone.collate([encoded[index] for index in part])
