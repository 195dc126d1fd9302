"""Define what travels between a client and the server: named tensors and plain scalars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

Scalar = bool | int | float | str
T = TypeVar("T")


@dataclass(frozen=True)
class Message:
    """Carry a download or an update.

    Attributes:
        tensors: by name; adapter tensors by :class:`~fedmosaic.adapters.keys.TensorKey`
            (``block.0.q_proj.P``), never by a framework's names.
        scalars: plain numbers and strings, by name.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    scalars: Mapping[str, Scalar] = field(default_factory=dict)

    def select(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names start with ``prefix``."""
        return {name: value for name, value in self.tensors.items() if name.startswith(prefix)}


def sent_in_round(entries: Mapping[str, T], parameters: Sequence[str], number: int) -> dict[str, T]:
    """Return what of an update leaves a client in a round.

    Args:
        entries: the tensors of an update by name, or what is declared of them.
        parameters: the last parts of the names of what leaves, one a round and then from the first
            on; empty: everything leaves in every round.
        number: the round, from 0.
    """
    if not parameters:
        return dict(entries)
    chosen = parameters[number % len(parameters)]
    return {name: entry for name, entry in entries.items() if name.rpartition(".")[2] == chosen}
