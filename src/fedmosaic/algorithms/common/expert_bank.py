"""Hold the experts of a client: adapters of its peers with prototypes of their prompts."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

PREFIX = "expert"
PROTOTYPES, SAME_MODEL = "prototypes", "same model"


def packed(
    name: str, tensors: Mapping[str, Tensor], found: Tensor, same_model: bool
) -> dict[str, Tensor]:
    """Return an expert as tensors of a message or of a client's state.

    Args:
        name: the client whose adapter it is.
        tensors: the adapter.
        found: prototypes of its prompts, [k, f].
        same_model: whether the receiver has the same architecture.
    """
    content = {**tensors, PROTOTYPES: found, SAME_MODEL: torch.tensor([float(same_model)])}
    return {f"{PREFIX}/{name}/{key}": value for key, value in content.items()}


def split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of experts, and the others."""
    experts = {k: v for k, v in tensors.items() if k.startswith(f"{PREFIX}/")}
    return experts, {k: v for k, v in tensors.items() if k not in experts}


class ExpertBank:
    """Read the experts among tensors.

    Args:
        tensors: of a client's state; others than those of experts are ignored.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._content: dict[str, dict[str, Tensor]] = {}
        for key, value in split(tensors)[0].items():
            name, _, part = key.removeprefix(f"{PREFIX}/").rpartition("/")
            self._content.setdefault(name, {})[part] = value

    @property
    def names(self) -> list[str]:
        """Return the clients whose adapters are there."""
        return list(self._content)

    def adapter(self, name: str) -> dict[str, Tensor]:
        """Return an expert's adapter; of another architecture P and Q alone."""
        parts = self._content[name]
        return {k: v for k, v in parts.items() if k not in (PROTOTYPES, SAME_MODEL)}

    def prototypes(self) -> dict[str, Tensor]:
        """Return the prototypes of each expert, [k, f]."""
        return {name: parts[PROTOTYPES] for name, parts in self._content.items()}

    def same_model(self, name: str) -> bool:
        """Return whether an expert has the architecture of its receiver."""
        return bool(self._content[name][SAME_MODEL])
