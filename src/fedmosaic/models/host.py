"""Answer on the host what a model's forward pass asks about a batch, so that a card never waits.

A GPU works behind the program, which only waits where it needs a value of a tensor on the card.
Transformers needs such values in every forward pass: whether the batch is padded, whether its
images fit its tokens, and where each token stands in an image. A batch keeps what it holds in main
memory too, so these questions are answered there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as trees

if TYPE_CHECKING:
    from fedmosaic.models.batch import Batch

ASKING = ("get_placeholder_mask", "get_rope_index")
"""Methods of models in Transformers that read values of a batch."""

_current: ContextVar[Batch | None] = ContextVar("batch", default=None)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from main memory to a device without waiting for the copy.

    For CUDA it goes through page-locked memory of its own, which torch uses again only after the
    copy has ended.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def known(batch: Batch) -> Iterator[None]:
    """Let forward passes inside ask about this batch."""
    token = _current.set(batch)
    try:
        yield
    finally:
        _current.reset(token)


def answer_on_host(model: nn.Module) -> None:
    """Make a model ask the host about the batch that is :func:`known`; its outputs stay."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask

    if ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask:
        ALL_MASK_ATTENTION_FUNCTIONS.register("sdpa", partial(_mask, sdpa_mask))
    for module in model.modules():
        for name in ASKING:
            method = getattr(module, name, None)
            if method is not None and not isinstance(method, _OnHost):
                setattr(module, name, _OnHost(method))


def _mask(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Make a mask as Transformers does, which would look for padding in the values of a batch."""
    batch, padding = _current.get(), kwargs.get("attention_mask")
    if (
        batch is not None
        and padding is not None
        and padding.shape == batch.attention_mask.shape
        and kwargs.get("allow_is_causal_skip", True)
        and not kwargs.get("allow_is_bidirectional_skip")
    ):
        kwargs |= {"allow_is_causal_skip": False} if batch.padded else {"attention_mask": None}
    return make(*args, **kwargs)


class _OnHost:
    """Call a method with the tensors of the known batch in main memory, and copy what it returns.

    Other tensors are replaced by empty ones of their shape. Where that does not do, because one
    holds whole numbers, the method is called as it is.
    """

    def __init__(self, method: Callable[..., Any]) -> None:
        self.method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        batch = _current.get()
        leaves, layout = trees.tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        held = {} if batch is None else batch.held()
        if not any(id(tensor) in held for tensor in tensors) or not all(
            id(tensor) in held or tensor.is_floating_point() for tensor in tensors
        ):
            return self.method(*args, **kwargs)
        assert batch is not None
        device = batch.input_ids.device
        there = [self._there(leaf, held) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        found = self._ask(*trees.tree_unflatten(there, layout))
        return trees.tree_map_only(Tensor, lambda tensor: to_device(tensor, device), found)

    def _ask(self, args: Any, kwargs: Any) -> Any:
        return self.method(*args, **kwargs)

    @staticmethod
    def _there(tensor: Tensor, held: dict[int, Tensor]) -> Tensor:
        if id(tensor) in held:
            return held[id(tensor)]
        return torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
