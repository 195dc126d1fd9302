"""Name the linear modules of a model by their roles, without the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

Place = Literal["attention", "mlp", "mixer", "other"]
Excluded = Literal["", "router", "expert", "taken for expert", "read directly"]


@dataclass(frozen=True)
class RoleName:
    """Name one linear module of a decoder layer.

    Attributes:
        layer: 0-based decoder layer.
        path: its path inside the layer, e.g. ``self_attn.q_proj``.
        role: its name in all families, unique in its layer.
        place: the part of the layer that it belongs to; ``mixer`` is what replaces attention in
            state-space, convolution and linear-attention layers.
        excluded: why it can carry no adapter; empty where it can. ``taken for expert``: PEFT takes
            its name for that of an expert (:mod:`.expert_names`). ``read directly``: the model's
            code takes the weight without calling the module, past an adapter.
    """

    layer: int
    path: str
    role: str
    place: Place
    excluded: Excluded

    @property
    def leaf(self) -> str:
        """Return the last part of its path, the model's own name for it."""
        return self.path.rpartition(".")[2]

    @property
    def by_default(self) -> bool:
        """Return whether it carries an adapter where no modules are named."""
        return not self.excluded and self.place != "other"


R_co = TypeVar("R_co", bound=RoleName, covariant=True)


class HasRoles(Protocol[R_co]):
    """Know the linear modules of a model: a loaded one, or the description of one elsewhere."""

    @property
    def name(self) -> str:
        """Return the model's name, for messages."""

    @property
    def num_layers(self) -> int:
        """Return the number of decoder layers."""

    @property
    def roles(self) -> Sequence[Sequence[R_co]]:
        """Return the linear modules of each decoder layer."""


@dataclass(frozen=True)
class ModelRoles:
    """Describe the linear modules of a model that is elsewhere.

    Attributes:
        name: the model's name.
        roles: the linear modules of each decoder layer.
    """

    name: str
    roles: Sequence[Sequence[RoleName]]

    @property
    def num_layers(self) -> int:
        """Return the number of decoder layers."""
        return len(self.roles)
