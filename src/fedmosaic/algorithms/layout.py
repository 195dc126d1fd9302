"""Turn named tensors into one row of a matrix, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.errors import UpdateError


@dataclass(frozen=True)
class Layout:
    """Turn named tensors into one row of numbers, and back.

    Attributes:
        entries: name and shape of each tensor, in order of names.
    """

    entries: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Layout:
        """Return the layout of these tensors."""
        return cls(tuple((name, tuple(tensors[name].shape)) for name in sorted(tensors)))

    def flatten(self, tensors: Mapping[str, Tensor], whose: str) -> Tensor:
        """Return the tensors as one float32 row in main memory.

        Args:
            tensors: by name.
            whose: says in an error whose tensors they are.

        Raises:
            UpdateError: their names or shapes are not those of the layout.
        """
        return torch.cat(self.parts(tensors, whose))

    def parts(self, tensors: Mapping[str, Tensor], whose: str) -> list[Tensor]:
        """Return the row of :meth:`flatten` in parts, which may be views of the tensors."""
        found = Layout.of(tensors)
        if found != self:
            pairs = zip(self.entries, found.entries, strict=False)
            differing = next((f"{a} / {b}" for a, b in pairs if a != b), "other names")
            raise UpdateError(f"{whose}: its tensors do not fit those of the others: {differing}")
        values = [tensors[name].detach().reshape(-1).float().cpu() for name, _ in self.entries]
        return values or [torch.empty(0)]

    @property
    def values(self) -> int:
        """Return the length of a row."""
        return sum(math.prod(shape) for _, shape in self.entries)

    def split(self, row: Tensor) -> dict[str, Tensor]:
        """Return the named tensors of a row; the inverse of :meth:`flatten`."""
        parts = row.split([math.prod(shape) for _, shape in self.entries])
        return {
            name: part.reshape(shape)
            for (name, shape), part in zip(self.entries, parts, strict=True)
        }
