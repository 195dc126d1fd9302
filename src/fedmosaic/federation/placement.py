"""Settle at the start of a run which modules carry adapters and which sites are shared."""

from __future__ import annotations

from typing import Any

from fedmosaic.adapters.coverage import adapted
from fedmosaic.adapters.placement import Placement
from fedmosaic.adapters.sharing import shared_sites, unshared_roles, with_shared_sites
from fedmosaic.config import RunSettings
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone


def settle_sites(runtime: Runtime) -> RunSettings:
    """Return the settings with the sites written out that all models share.

    Raises:
        ModelError: as :func:`fedmosaic.adapters.sharing.shared_sites`.
    """
    scenario, models = runtime.scenario, _models(runtime)
    adapter = scenario.adapter
    if not runtime.algorithm.shares_subspaces:
        adapter = adapter.model_copy(update={"num_blocks": 0})  # the names alone are checked
    for model in models:
        with runtime.naming(runtime.field_of(model.name)):
            if adapter.num_blocks:
                Placement.of(adapter).block_ends(model.num_layers)
    with runtime.naming():
        adapter = with_shared_sites(models, adapter)
    if not runtime.algorithm.shares_subspaces:
        return runtime.settings
    if adapter == scenario.adapter:
        return runtime.settings
    changed = scenario.model_copy(update={"adapter": adapter})
    return runtime.settings.model_copy(update={"scenario": changed})


def describe(runtime: Runtime) -> dict[str, Any]:
    """Return what carries adapters in each model and which sites are shared, as JSON holds it.

    ``models`` has for each model its :class:`~fedmosaic.adapters.coverage.Coverage`, the
    ``clients`` that use it, and ``own``: roles at block ends that carry ordinary LoRA because not
    every model has them there. ``shared`` is the list of shared roles for each block; empty where
    the algorithm shares no Co-LoRA. ``exchange`` says what it shares instead.
    """
    scenario = runtime.scenario
    models = {runtime.architecture(name): runtime.backbone(name) for name in scenario.models_used}
    shared: tuple[tuple[str, ...], ...] = ()
    if runtime.algorithm.shares_subspaces:
        shared = shared_sites(_models(runtime), scenario.adapter)
    found = {}
    for name, model in models.items():
        clients = [
            client.name for client in scenario.clients if runtime.architecture(client.model) == name
        ]
        content = adapted(model, scenario.adapter).to_json()
        content.pop("model")
        own = unshared_roles(model, scenario.adapter, shared)
        found[name] = {**content, "clients": clients, "own": own}
    return {
        "models": found,
        "shared": [list(roles) for roles in shared],
        "exchange": "" if shared else runtime.algorithm.exchange,
    }


def _models(runtime: Runtime) -> list[Backbone]:
    """Return all models that have sites: the clients', and the pivot of an alignment."""
    scenario, names = runtime.scenario, list(runtime.scenario.models_used)
    if runtime.algorithm.shares_subspaces and scenario.alignment.method != "none":
        names.append(scenario.alignment.pivot)
    return [
        runtime.backbone(name) for name in dict.fromkeys(runtime.architecture(n) for n in names)
    ]
