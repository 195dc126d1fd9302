"""Hold what fused decoder layers share: where logits are asked for, rotary embeddings and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Places:
    """State where logits are asked for.

    Attributes:
        columns: Columns of the batch, int64, the same for all rows; None: given by ``flat``.
        flat: Places counted through the rows, int64.
    """

    columns: Tensor | None = None
    flat: Tensor | None = None


_asked: ContextVar[Places | None] = ContextVar("asked", default=None)


@contextmanager
def asked_at(columns: Tensor | None = None, flat: Tensor | None = None) -> Iterator[None]:
    """Let the last layer be computed at these places alone, if any; see :class:`Places`."""
    token = _asked.set(Places(columns, flat))
    try:
        yield
    finally:
        _asked.reset(token)


def current_places() -> Places | None:
    """Return where logits are asked for; None: everywhere."""
    places = _asked.get()
    return None if places is None or (places.columns is None and places.flat is None) else places


class SharedInputs:
    """Prepare for all layers of a model what they are given in common.

    Attributes:
        valid: Whether the first layer gave the numbers of the layer itself; None: not tried yet.
    """

    def __init__(self, valid: bool | None = None) -> None:
        self.valid = valid
        self._stored: dict[str, tuple[tuple[Any, ...], Tensor]] = {}

    def clear(self) -> None:
        """Drop the tensors of the last batch."""
        self._stored.clear()

    def rotation(self, cos: Tensor, sin: Tensor) -> Tensor:
        """Return rotary embeddings as complex numbers, [n or 1, T, head size / 2]."""
        half = cos.shape[-1] // 2
        return self._find(
            "rotation", (cos, sin), lambda: torch.complex(cos[..., :half], sin[..., :half])
        )

    def mask(
        self, given: Tensor | None, columns: Tensor | None, sizes: tuple[int, int, int, int, int]
    ) -> Tensor:
        """Return what is added to the scores, [keys' heads, n, heads of each, queries, keys].

        Args:
            given: The mask as a layer is given it; None: tokens attend to those before them.
            columns: The columns of the queries; None: the last ones.
            sizes: The shape of the result.
        """

        def make() -> Tensor:
            heads, n, group, queries, keys = sizes
            seen = given
            if seen is None:
                seen = torch.ones(keys, keys, dtype=torch.bool).tril()[None, None]
            rows = seen[:, :, -queries:] if columns is None else seen[:, :, columns]
            if rows.dtype == torch.bool:
                lowest = torch.finfo(torch.float32).min
                rows = torch.zeros(rows.shape).masked_fill_(~rows, lowest)
            return (
                rows.expand(n, 1, queries, keys)[:, 0, None]
                .expand(heads, n, group, queries, keys)
                .contiguous()
            )

        name = "mask" if columns is None else "mask of columns"
        return self._find(name, (given, columns, sizes), make)

    def _find(self, name: str, key: tuple[Any, ...], make: Callable[[], Tensor]) -> Tensor:
        found = self._stored.get(name)
        if found is None or not all(
            a is b or (isinstance(a, tuple) and a == b) for a, b in zip(found[0], key, strict=True)
        ):
            found = self._stored[name] = key, make()
        return found[1]


def used_tokens(x: Tensor, mask: Tensor | None) -> Tensor:
    """Return which tokens attend to any, bool [n, T]; those at padding do not."""
    if mask is None:
        return torch.ones(x.shape[:2], dtype=torch.bool)
    seen = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return seen[:, 0].any(-1).expand(x.shape[:2])
