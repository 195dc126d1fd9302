"""Choose the linear modules of a model that carry adapters, the same for every algorithm."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from fedmosaic.errors import ModelError, nearest
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.role_names import HasRoles, RoleName

R = TypeVar("R", bound=RoleName)


def targets(backbone: HasRoles[R], names: Sequence[str] | None = None) -> list[list[R]]:
    """Return the modules of each decoder layer that carry adapters.

    Args:
        backbone: the base model, or the roles of one that is elsewhere.
        names: roles, or the model's own names; None: all linear modules of attention, MLP and what
            replaces attention (:attr:`~fedmosaic.models.roles.RoleModule.by_default`).

    Raises:
        ModelError: nothing in the model can be adapted, or it has no module of these names.
    """
    if names is None:
        found = [[one for one in layer if one.by_default] for layer in backbone.roles]
        if not any(found):
            raise ModelError(
                f"model {backbone.name!r} has no linear module that an adapter can sit on"
                f"{_reasons(backbone.roles)}; use a model with attention or MLP layers"
            )
        return found
    found = [
        [one for one in layer if not one.excluded and {one.role, one.leaf} & set(names)]
        for layer in backbone.roles
    ]
    if not any(found):
        raise unknown_name(names[0], [backbone])
    return found


def unknown_name(
    name: str, backbones: Iterable[HasRoles[RoleName]], field: str = "target_modules"
) -> ModelError:
    """Return the error for a name that no module of these models has."""
    models = list(backbones)
    modules = [one for model in models for layer in model.roles for one in layer]
    refused = next((one for one in modules if name in (one.role, one.leaf)), None)
    if refused is not None:
        return ModelError(
            f"adapter.{field}: {name!r} of {', '.join(repr(model.name) for model in models)} "
            f"carries no adapter: {REASONS[refused.excluded]}. Leave it out"
        )
    known = {spelling for one in modules if not one.excluded for spelling in (one.role, one.leaf)}
    return ModelError(
        f"adapter.{field}: {', '.join(repr(model.name) for model in models)} "
        f"{'have' if len(models) > 1 else 'has'} no linear module {name!r}.{nearest(name, known)}"
    )


REASONS = {
    "": "adapter.target_modules leaves it out",
    "router": "it chooses or weights experts",
    "expert": "it is one of many experts, of which a token sees a few",
    "taken for expert": "PEFT takes its name for that of an expert",
    "read directly": "the model's code reads its weight past an adapter",
}
"""Why a module carries no adapter, by :attr:`~fedmosaic.models.roles.RoleModule.excluded`."""


def pattern(backbone: Backbone, names: Sequence[str] | None = None) -> str:
    """Return a regular expression for the paths of these modules; arguments as of targets()."""
    chosen = targets(backbone, names)
    paths = dict.fromkeys(module.path for layer in chosen for module in layer)
    prefix = re.escape(backbone.layers_prefix)
    return rf"{prefix}\.\d+\.({'|'.join(map(re.escape, paths))})"


def _reasons(layers: Sequence[Sequence[RoleName]]) -> str:
    found = {one.role: REASONS[one.excluded] for layer in layers for one in layer if one.excluded}
    return f" ({'; '.join(f'{role}: {why}' for role, why in found.items())})" if found else ""
