"""Define what travels between a client and the server: named tensors and plain scalars."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

Scalar = bool | int | float | str


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
