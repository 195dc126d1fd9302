"""Find the Co-LoRA sites that the models of a check have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedmosaic.adapters.sharing import shared_sites, unshared_roles, with_shared_sites
from fedmosaic.config import AdapterSettings
from fedmosaic.errors import FedMosaicError
from fedmosaic.model_check.problems import collected
from fedmosaic.model_check.report import CheckedModel
from fedmosaic.models.backbone import Backbone


def share(
    loaded: Mapping[str, Backbone], results: Mapping[str, CheckedModel], given: AdapterSettings
) -> dict[str, AdapterSettings]:
    """Write the sites that all models have into their results.

    Where the models have none in common, that is a problem of each, and each gets its own sites.

    Returns:
        the adapter settings of each model that can carry adapters, with these sites.
    """
    adapters: dict[str, AdapterSettings] = {}
    for name, backbone in loaded.items():
        with collected(results[name], "finding its layers"):
            own = _with_blocks([backbone], given)
            if own.num_blocks < given.num_blocks:
                results[name].add_note(
                    f"it has {backbone.num_layers} layers: set adapter.num_blocks to "
                    f"{own.num_blocks} or less for a federation with it"
                )
            adapters[name] = with_shared_sites([backbone], own)
    models = [loaded[name] for name in adapters]
    if not models:
        return adapters
    try:
        common = with_shared_sites(models, _with_blocks(models, given))
        shared = shared_sites(models, common)
    except FedMosaicError as error:
        for name in adapters:
            results[name].add_problem(str(error))
            results[name].shared_sites = []
        return adapters
    for name in adapters:
        results[name].shared_sites = [
            f"block.{block}.{role}" for block, roles in enumerate(shared) for role in roles
        ]
        results[name].unshared = unshared_roles(loaded[name], common, shared)
    return dict.fromkeys(adapters, common)


def _with_blocks(models: Sequence[Backbone], given: AdapterSettings) -> AdapterSettings:
    """Return the settings with no more blocks than layers, where the number was not chosen."""
    fewest = min(model.num_layers for model in models)
    if "num_blocks" in given.model_fields_set or fewest >= given.num_blocks:
        return given
    return given.model_copy(update={"num_blocks": fewest})
