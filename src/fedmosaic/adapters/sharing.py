"""Find the Co-LoRA sites that all models of a federation have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from fedmosaic.adapters.placement import Placement
from fedmosaic.adapters.targets import targets, unknown_name
from fedmosaic.config import AdapterSettings
from fedmosaic.errors import ModelError
from fedmosaic.models.role_names import HasRoles, RoleName
from fedmosaic.models.roles import FUSED, PROJECTIONS

Roles = tuple[str, ...]
Model = HasRoles[RoleName]


def shared_sites(backbones: Sequence[Model], settings: AdapterSettings) -> tuple[Roles, ...]:
    """Return the roles that carry Co-LoRA at the end of each block, in every model.

    A role that only some of the models have at a block end carries ordinary LoRA there.

    Args:
        backbones: all models of the federation, or their roles.
        settings: its ``adapter`` section.

    Returns:
        the roles for each block; nothing where ``num_blocks`` is 0.

    Raises:
        ModelError: two models have no common site, a model lacks a module of
            ``adapter.shared_modules``, or no model has a module of ``adapter.target_modules``.
    """
    _check_names(backbones, settings)
    if not settings.num_blocks:
        return ()
    at_ends = {backbone.name: _roles_at_ends(backbone, settings) for backbone in backbones}
    common = _intersection(list(at_ends.values()))
    flat, by_block = settings.shared_roles
    if flat is not None:
        wanted = by_block or (flat,) * settings.num_blocks
        if len(wanted) != settings.num_blocks:
            raise ModelError(
                f"adapter.shared_modules has lists for {len(wanted)} blocks, but "
                f"adapter.num_blocks is {settings.num_blocks}: give one list for each block, or "
                "one for all"
            )
        return _chosen(backbones, at_ends, wanted)
    if not any(common):
        raise _nothing_shared(at_ends)
    return common


def with_shared_sites(backbones: Sequence[Model], settings: AdapterSettings) -> AdapterSettings:
    """Return the settings with the shared sites written out, unchanged where they say so already.

    Raises:
        ModelError: as :func:`shared_sites`.
    """
    found = shared_sites(backbones, settings)
    written = Placement.of(settings)
    if not found or found == (written.by_block or (written.modules,) * len(found)):
        return settings
    same = all(roles == found[0] for roles in found)
    return settings.model_copy(update={"shared_modules": found[0] if same else found})


def unshared_roles(
    backbone: Model, settings: AdapterSettings, shared: Sequence[Roles]
) -> list[str]:
    """Return the roles that a model adapts at a block end without sharing them.

    Args:
        backbone: the model.
        settings: the ``adapter`` section.
        shared: the shared roles for each block; empty: nothing is shared.
    """
    if not shared or settings.block_rule == "cka":
        return []
    layers = targets(backbone, settings.target_modules)
    ends = Placement.of(settings).block_ends(backbone.num_layers)
    roles = [
        module.role
        for block, end in enumerate(ends)
        for module in layers[end]
        if module.role not in shared[block]
    ]
    return list(dict.fromkeys(roles))


def _check_names(backbones: Sequence[Model], settings: AdapterSettings) -> None:
    """Raise ModelError for a model without adapters, or a name that no model has."""
    chosen = [
        module
        for backbone in backbones
        for layer in targets(backbone, settings.target_modules)
        for module in layer
    ]
    known = {spelling for module in chosen for spelling in (module.role, module.leaf)}
    for name in settings.target_modules or ():
        if name not in known:
            raise unknown_name(name, backbones)


def _roles_at_ends(backbone: Model, settings: AdapterSettings) -> list[dict[str, Roles]]:
    """Return, for the end of each block, the spellings of its adapted modules and their roles.

    With ``block_rule: cka`` the ends are not known yet, so only what every layer has counts.
    """
    layers = targets(backbone, settings.target_modules)
    if settings.block_rule == "cka":
        everywhere = set.intersection(*({one.role for one in layer} for layer in layers))
        ends = [[one for one in layers[0] if one.role in everywhere]] * settings.num_blocks
    else:
        ends = [layers[end] for end in Placement.of(settings).block_ends(backbone.num_layers)]
    found = []
    for layer in ends:
        roles: dict[str, Roles] = {one.role: (one.role,) for one in layer}
        for one in layer:
            if one.leaf not in roles:
                roles[one.leaf] = tuple(m.role for m in layer if m.leaf == one.leaf)
        found.append(roles)
    return found


def _intersection(models: Sequence[Sequence[Mapping[str, Roles]]]) -> tuple[Roles, ...]:
    """Return the roles that all models have at the end of each block, in one order."""
    return tuple(
        tuple(sorted(set.intersection(*(_roles(one) for one in ends)), key=_order))
        for ends in zip(*models, strict=True)
    )


def _roles(end: Mapping[str, Roles]) -> set[str]:
    return {role for roles in end.values() for role in roles}


def _order(role: str) -> tuple[int, str]:
    known = (*PROJECTIONS, *FUSED)
    return (known.index(role) if role in known else len(known), role)


def _chosen(
    backbones: Sequence[Model],
    at_ends: Mapping[str, Sequence[Mapping[str, Roles]]],
    wanted: Sequence[Roles],
) -> tuple[Roles, ...]:
    """Return what ``adapter.shared_modules`` names as roles, which every model must have."""
    found: list[Roles] = []
    for block, names in enumerate(wanted):
        roles: dict[str, None] = {}
        for name in names:
            of_models = [ends[block].get(name) for ends in at_ends.values()]
            for backbone, own in zip(backbones, of_models, strict=True):
                if own is None:
                    raise _lacking(backbone, name, block, at_ends)
                if own != of_models[0]:
                    raise ModelError(
                        f"adapter.shared_modules: {name!r} is {', '.join(of_models[0] or ())} in "
                        f"{backbones[0].name!r}, but {', '.join(own)} in {backbone.name!r}: name "
                        "roles instead"
                    )
            roles |= dict.fromkeys(of_models[0] or ())
        found.append(tuple(roles))
    return tuple(found)


def _lacking(
    backbone: Model,
    name: str,
    block: int,
    at_ends: Mapping[str, Sequence[Mapping[str, Roles]]],
) -> ModelError:
    """Return the error for a shared module that one model lacks at a block's end."""
    if not any(name in end for ends in at_ends.values() for end in ends):
        return unknown_name(name, [backbone], "shared_modules")
    common = _intersection(list(at_ends.values()))[block]
    return ModelError(
        f"adapter.shared_modules: {backbone.name!r} has no adapted module {name!r} at the end of "
        f"block {block}, so it cannot be shared. All models have: {', '.join(common) or 'none'}"
    )


def _nothing_shared(at_ends: Mapping[str, Sequence[Mapping[str, Roles]]]) -> ModelError:
    """Return the error for models without a common site, naming two of them where two suffice."""
    apart = list(at_ends)
    for pair in combinations(at_ends, 2):
        if not any(_intersection([at_ends[name] for name in pair])):
            apart = list(pair)
            break
    owned = "; ".join(
        f"{name!r} has {', '.join(sorted(set().union(*map(_roles, at_ends[name])), key=_order))}"
        for name in apart
    )
    return ModelError(
        f"the models {' and '.join(map(repr, apart))} have no adapted module in common at the ends "
        f"of their blocks, so nothing can be shared between them ({owned}). Name modules of the "
        "same roles in adapter.target_modules and adapter.shared_modules, change "
        "adapter.num_blocks, or leave one of the models out"
    )
