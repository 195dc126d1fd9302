"""Hold encoded examples as one batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedmosaic.models.encoding import IGNORE, Encoded
from fedmosaic.models.host import to_device


@dataclass(frozen=True)
class Batch:
    """Hold n encoded examples, padded on the left so that all answers end in the last column.

    Attributes:
        input_ids: int64 [n, T].
        attention_mask: int64 [n, T], 0 at padding.
        labels: int64 [n, T], -100 where nothing is learned.
        others: What a model's forward pass takes beside ids and mask: positions, types of tokens,
            image grids, and ``mm_encoder_outputs`` with the features of the images.
        host: The same tensors in main memory, by name, where nothing waits for a device to read
            them. Empty: they are copied there when they are read.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor
    others: dict[str, Any] = field(default_factory=dict)
    host: dict[str, Tensor] = field(default_factory=dict)

    def add(self, name: str, value: Tensor) -> None:
        """Add what a forward pass takes, from main memory."""
        self.host[name] = value
        self.others[name] = to_device(value, self.input_ids.device)

    def held(self) -> dict[int, Tensor]:
        """Return the tensors in main memory by the ``id`` of the same one on the device."""
        return {id(getattr(self, n, self.others.get(n))): value for n, value in self.host.items()}

    @property
    def host_labels(self) -> Tensor:
        """Return the labels in main memory."""
        return self.host["labels"] if "labels" in self.host else self.labels.cpu()

    @cached_property
    def padded(self) -> bool:
        """Return whether any example is padded."""
        mask = self.host.get("attention_mask", self.attention_mask)
        return not bool(mask.all())

    @property
    def inputs(self) -> dict[str, Any]:
        """Return the arguments of a forward pass of a model on this batch.

        A forward pass may add to ``mm_encoder_outputs``, so each gets its own dictionary.
        """
        others = {
            name: dict(value) if isinstance(value, dict) else value
            for name, value in self.others.items()
        }
        return {"input_ids": self.input_ids, "attention_mask": self.attention_mask, **others}

    @property
    def answer_width(self) -> int:
        """Return the number of trailing columns that hold every label (at least 1)."""
        used = (self.host_labels != IGNORE).any(dim=0).nonzero()
        return int(self.labels.shape[1] - used[0, 0]) if len(used) else 1

    @property
    def shapes(self) -> tuple[Any, ...]:
        """Return what decides how many operations a pass on this batch has."""
        others = [(name, v.shape) for name, v in self.others.items() if isinstance(v, Tensor)]
        return self.labels.shape, self.answer_width, self.padded, *sorted(others)

    def columns(self, start: int, end: int) -> Tensor:
        """Return the columns ``start`` to ``end`` as an index for ``logits_to_keep``.

        With a number instead, a model multiplies a view of its hidden states with the head, one
        product for each example. A head of 262,144 words is then read anew for each of them,
        forward and backward. An index makes it one product in all.
        """
        return torch.arange(start, end, device=self.labels.device)

    def __len__(self) -> int:
        return int(self.input_ids.shape[0])


def pad_left(items: Sequence[Encoded], pad: int, device: torch.device) -> Batch:
    """Return the ids, masks, labels and other values by token of examples, padded on the left.

    Args:
        items: The encoded examples.
        pad: Token id at padding.
        device: Where the tensors go.
    """
    names = sorted({name for item in items for name in item.by_token})
    width = max(len(item.input_ids) for item in items)
    table = np.zeros((3 + len(names), len(items), width), dtype=np.int64)
    table[0], table[2] = pad, IGNORE
    for row, item in enumerate(items):
        start = width - len(item.input_ids)
        table[0, row, start:] = item.input_ids
        table[1, row, start:] = 1
        table[2, row, start:] = item.labels
        for number, name in enumerate(names, start=3):
            if name in item.by_token:
                table[number, row, start:] = item.by_token[name]
    every = ("input_ids", "attention_mask", "labels", *names)
    host = torch.from_numpy(table)
    tensors = dict(zip(every, to_device(host, device).unbind(), strict=True))
    ids, mask, labels = (tensors.pop(name) for name in every[:3])
    return Batch(ids, mask, labels, tensors, dict(zip(every, host.unbind(), strict=True)))


def images_of(items: Sequence[Encoded]) -> dict[str, Tensor]:
    """Return the values that a model takes by image, of all images of the examples in order."""
    names = {name for item in items for name in item.by_image}
    return {
        name: torch.cat([item.by_image[name] for item in items if name in item.by_image])
        for name in sorted(names)
    }
