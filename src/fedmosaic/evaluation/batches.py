"""Batch prompts for evaluation, and show each batch to models that depend on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import Encoded
from fedmosaic.models.images import Unit


@runtime_checkable
class PreparedModel(Protocol):
    """Describe a model that must see every batch before it is run on it."""

    def prepare(self, batch: Batch) -> None:
        """Adapt the model to a batch of prompts, which may be followed by labelled answers."""


def prepare(model: Any, batch: Batch) -> None:
    """Show a batch to the model, if it is a :class:`PreparedModel`."""
    if isinstance(model, PreparedModel):
        model.prepare(batch)


T = TypeVar("T")

AHEAD = 256
"""Images whose features are computed together, before the batches that they are in."""


class BatchStore:
    """Keep batches by number while memory lasts.

    Args:
        memory: Bytes of tensors that are kept.
    """

    def __init__(self, memory: int) -> None:
        self._room = memory
        self._stored: dict[int, Any] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._stored

    def find(self, number: int, make: Callable[[], T]) -> T:
        """Return the batch of that number, made anew where it was not kept."""
        if number in self._stored:
            stored: T = self._stored[number]
            return stored
        batch = make()
        size = _bytes(vars(batch))
        if size <= self._room:
            self._room -= size
            self._stored[number] = batch
        return batch


class SortedBatches:
    """Batch encoded examples of similar length, and keep the batches for the next model.

    Iteration yields the indices of a batch's examples and the batch. Clients of one architecture
    are evaluated on the same examples, so each batch is collated once while memory lasts.

    Args:
        backbone: Collates the examples.
        items: The encoded examples.
        size: Most sequences in a batch; None: any number.
        tokens: Most tokens in a batch with padding; None: not limited. An example that is longer
            has a batch of its own.
        memory: Bytes of batches that are kept; the others are collated again each time.
    """

    def __init__(
        self,
        backbone: Backbone,
        items: Sequence[Encoded],
        size: int | None,
        tokens: int | None = None,
        memory: int = 0,
    ) -> None:
        self.backbone = backbone
        self.items = items
        self.parts = _parts([len(item.input_ids) for item in items], size, tokens)
        self._store = BatchStore(memory)

    def __iter__(self) -> Iterator[tuple[list[int], Batch]]:
        ready = 0
        for number, part in enumerate(self.parts):
            if number >= ready:
                ready = self._compute_ahead(number)
            yield part, self._store.find(number, partial(self._collated, part))

    def _compute_ahead(self, number: int) -> int:
        """Compute images of the next batches together; return the first batch after them."""
        units: list[Unit] = []
        while number < len(self.parts) and len(units) < AHEAD:
            if number not in self._store:
                units += [u for index in self.parts[number] for u in self.items[index].units]
            number += 1
        if units and self.backbone.images is not None:
            self.backbone.images.compute_ahead(units)
        return number

    def _collated(self, part: Sequence[int]) -> Batch:
        return self.backbone.collate([self.items[index] for index in part])


def prompt_batches(
    backbone: Backbone, examples: Sequence[Example], size: int, tokens: int | None = None
) -> Iterator[tuple[list[int], Batch]]:
    """Yield batches of prompts of similar length, with the indices of their examples.

    ``size`` and ``tokens`` are as of :class:`SortedBatches`.
    """
    encoded = [backbone.encode(example, answer=False) for example in examples]
    yield from SortedBatches(backbone, encoded, size, tokens)


def _parts(lengths: Sequence[int], size: int | None, tokens: int | None) -> list[list[int]]:
    """Return the indices of each batch, from the shortest to the longest examples."""
    parts: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        full = not parts or len(parts[-1]) == size
        if full or (tokens is not None and (len(parts[-1]) + 1) * lengths[index] > tokens):
            parts.append([])
        parts[-1].append(index)
    return parts


def _bytes(value: Any) -> int:
    """Return the bytes of the tensors in nested dictionaries, lists and namespaces."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(_bytes, value.values()))
    if isinstance(value, (list, tuple)):
        return sum(map(_bytes, value))
    return sum(map(_bytes, vars(value).values())) if hasattr(value, "__dict__") else 0
