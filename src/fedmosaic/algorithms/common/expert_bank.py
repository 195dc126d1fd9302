"""Hold the experts of a client: adapters of its peers with prototypes of their prompts.

A peer is one expert, with its name, or several, each for a part of its prompts: ``b/1``, ``b/2``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from fedmosaic.relevance.prototypes import nearest_owner, permuted

PREFIX = "expert"
PROTOTYPES, SAME_MODEL = "prototypes", "same model"


def owner_of(name: str) -> str:
    """Return the client whose expert has this name."""
    return name.partition("/")[0]


def names_by_owner(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the experts of each client."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(owner_of(name), []).append(name)
    return found


def means_of_clients(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return one prototype for each client, the mean of all of its experts, [1, f].

    Args:
        found: prototypes by expert.
    """
    return {
        owner: torch.cat([found[name] for name in names]).mean(0, keepdim=True)
        for owner, names in names_by_owner(found).items()
    }


def nearest_experts(
    inputs: Tensor, found: Mapping[str, Tensor], owners: Sequence[str | None]
) -> list[str | None]:
    """Return for each input the nearest expert of the client that it goes to.

    Args:
        inputs: features, standardised as the prototypes are, [m, f].
        found: prototypes by expert.
        owners: the client of each input; what is none of the clients stays.
    """
    names = names_by_owner(found)
    chosen = list(owners)
    for owner, own in names.items():
        places = [place for place, name in enumerate(owners) if name == owner]
        if places:
            nearest, _ = nearest_owner(inputs[places], {name: found[name] for name in own})
            for place, name in zip(places, nearest, strict=True):
                chosen[place] = name
    return chosen


def exchanged(found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return other prototypes for each expert, as a control: those of the next client.

    Args:
        found: prototypes by expert.
    """
    names = names_by_owner(found)
    result: dict[str, Tensor] = {}
    for owner, other in permuted(list(names)).items():
        rows = torch.cat([found[name] for name in names[other]])
        own = names[owner]
        result |= {name: rows[place :: len(own)] for place, name in enumerate(own)}
    return {name: result[name] for name in found}


def packed(
    name: str, tensors: Mapping[str, Tensor], found: Tensor, same_model: bool
) -> dict[str, Tensor]:
    """Return an expert as tensors of a message or of a client's state.

    Args:
        name: the expert.
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
        """Return the names of the experts."""
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
