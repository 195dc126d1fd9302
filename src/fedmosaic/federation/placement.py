"""Settle at the start of a run which modules carry adapters and which sites are shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.adapters.coverage import Coverage, adapted
from fedmosaic.adapters.placement import Placement
from fedmosaic.adapters.sharing import shared_sites, unshared_roles, with_shared_sites
from fedmosaic.algorithms import Algorithm
from fedmosaic.config import AdapterSettings, RunSettings
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.role_names import HasRoles, RoleName


def settle_sites(runtime: Runtime) -> RunSettings:
    """Return the settings with the sites written out that all models share.

    Raises:
        ModelError: as :func:`fedmosaic.adapters.sharing.shared_sites`.
    """
    scenario, models = runtime.scenario, _models(runtime)
    shares = runtime.algorithm.shares_subspaces
    for model in models:
        with runtime.naming(runtime.field_of(model.name)):
            if scenario.adapter.num_blocks and shares:
                Placement.of(scenario.adapter).block_ends(model.num_layers)
    with runtime.naming():
        adapter = settled_adapter(models, scenario.adapter, shares)
    if adapter == scenario.adapter:
        return runtime.settings
    changed = scenario.model_copy(update={"adapter": adapter})
    return runtime.settings.model_copy(update={"scenario": changed})


def settled_adapter(
    models: Sequence[HasRoles[RoleName]], adapter: AdapterSettings, shares_subspaces: bool
) -> AdapterSettings:
    """Return the settings of the adapters with the sites written out that all models share.

    Args:
        models: all models that have sites, or their roles.
        adapter: the settings.
        shares_subspaces: whether the algorithm shares Co-LoRA; else the names alone are checked.

    Raises:
        ModelError: as :func:`fedmosaic.adapters.sharing.shared_sites`.
    """
    if shares_subspaces:
        return with_shared_sites(models, adapter)
    with_shared_sites(models, adapter.model_copy(update={"num_blocks": 0}))
    return adapter


def describe(runtime: Runtime) -> dict[str, Any]:
    """Return what carries adapters in each model and which sites are shared, as JSON holds it.

    ``models`` has for each model its :class:`~fedmosaic.adapters.coverage.Coverage`, the
    ``clients`` that use it, and ``own``: roles at block ends that carry ordinary LoRA because not
    every model has them there. ``shared`` is the list of shared roles for each block; empty where
    the algorithm shares no Co-LoRA. ``exchange`` says what it shares instead.
    """
    scenario = runtime.scenario
    models = {runtime.architecture(name): runtime.backbone(name) for name in scenario.models_used}
    coverage = {name: adapted(model, scenario.adapter) for name, model in models.items()}
    clients = {
        name: [c.name for c in scenario.clients if runtime.architecture(c.model) == name]
        for name in models
    }
    with_sites = _models(runtime) if runtime.algorithm.shares_subspaces else []
    return placement(runtime.algorithm, models, coverage, clients, with_sites)


def placement(
    algorithm: Algorithm,
    models: Mapping[str, HasRoles[RoleName]],
    coverage: Mapping[str, Coverage],
    clients: Mapping[str, Sequence[str]],
    with_sites: Sequence[HasRoles[RoleName]],
) -> dict[str, Any]:
    """Return what :func:`describe` returns, from what is known of the models.

    Args:
        algorithm: the run's algorithm, with its scenario.
        models: the models or their roles, by architecture.
        coverage: what of each carries adapters.
        clients: names of the clients of each.
        with_sites: all models that share Co-LoRA; empty where the algorithm shares none.
    """
    adapter = algorithm.scenario.adapter
    shared = shared_sites(with_sites, adapter) if with_sites else ()
    found = {}
    for name, model in models.items():
        content = coverage[name].to_json()
        content.pop("model")
        own = unshared_roles(model, adapter, shared)
        found[name] = {**content, "clients": list(clients[name]), "own": own}
    return {
        "models": found,
        "shared": [list(roles) for roles in shared],
        "exchange": "" if shared else algorithm.exchange,
    }


def _models(runtime: Runtime) -> list[Backbone]:
    """Return all models that have sites: the clients', and the pivot of an alignment."""
    scenario, names = runtime.scenario, list(runtime.scenario.models_used)
    if runtime.algorithm.shares_subspaces and scenario.alignment.method != "none":
        names.append(scenario.alignment.pivot)
    return [
        runtime.backbone(name) for name in dict.fromkeys(runtime.architecture(n) for n in names)
    ]
