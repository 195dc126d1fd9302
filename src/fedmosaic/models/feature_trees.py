"""Arrange image features: tensors, lists of tensors, or lists by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as trees

from fedmosaic.models.host import to_device


def as_tensor(value: Any) -> Tensor:
    """Return an output of a processor as a tensor."""
    from transformers import BatchFeature

    tensor: Tensor = BatchFeature({"value": value}, tensor_type="pt")["value"]
    return tensor


def move(tree: Any, device: torch.device) -> Any:
    """Return features on another device."""
    return trees.tree_map(lambda leaf: to_device(leaf, device), tree)


def join(values: Sequence[Any], layers: bool) -> Any:
    """Join the features of several units.

    Tensors are joined along their first dimension, lists of one tensor an image one after another.

    Args:
        values: The features of each unit.
        layers: They are lists of one entry a layer, which are joined by layer.
    """
    if layers:
        return [join(entries, layers=False) for entries in zip(*values, strict=True)]
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    return [tensor for value in values for tensor in value]
