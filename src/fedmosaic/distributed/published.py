"""Align the models of a federation without moving data: one pivot publishes, all others fit to it.

The site that has the pivot's model publishes, or the server where no client has it. Refined
alignments need all models in one place, so that only those of the package can be used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedmosaic.adapters.placement import Placement
from fedmosaic.algorithms import algorithm_class
from fedmosaic.alignment.deployment.publish import publish, require_agreement
from fedmosaic.alignment.deployment.published import SIZE_LIMIT, pack_published, unpack_published
from fedmosaic.alignment.deployment.remote import Aligner, PublishedAligner, StoredAligner
from fedmosaic.alignment.store import BUNDLED, find_in_folder
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.errors import ConfigError, UpdateError
from fedmosaic.federation.runtime import Runtime

SERVER = ""


def is_aligned(algorithm: str, scenario: Scenario) -> bool:
    """Return whether the models of a run share A and B that have to be aligned."""
    shares = algorithm_class(algorithm).shares_subspaces and scenario.adapter.num_blocks > 0
    return shares and scenario.alignment.method != "none"


def publisher(settings: RunSettings, public: Callable[[], str]) -> str | None:
    """Return which client publishes its model's numbers as the pivot.

    Args:
        settings: the run, settled.
        public: returns the fingerprint of the public examples of the alignment at the server.

    Returns:
        the client's name; :data:`SERVER` where no client has the pivot's model; None where nothing
        has to be published.

    Raises:
        ConfigError: the alignment is a refined one that the package does not hold.
    """
    scenario = settings.scenario
    if not is_aligned(settings.algorithm, scenario):
        return None
    pivot = scenario.alignment.pivot
    if scenario.alignment.refine is not None:
        _require_in_package(settings, public)
        return None
    if set(scenario.models_used) == {pivot}:
        return None
    return next((client.name for client in scenario.clients if client.model == pivot), SERVER)


def _require_in_package(settings: RunSettings, public: Callable[[], str]) -> None:
    """Raise ConfigError unless the package holds the refined alignments of all models."""
    scenario, weights = settings.scenario, _weights(settings)
    placement = Placement.of(scenario.adapter)
    stored = StoredAligner(scenario.alignment.pivot, weights)
    for name, found in weights.items():
        one = stored.find(found, public(), scenario.alignment, placement)
        if one is None or find_in_folder(BUNDLED, one.identity) is None:
            raise ConfigError(
                f"{settings.name}: alignment.refine needs all models in one place, and the package "
                f"holds no refined alignment of {name} with these settings and public data; set "
                "alignment.refine: null, which aligns every model at its own site"
            )


def _weights(settings: RunSettings) -> Mapping[str, str]:
    assert settings.deployed is not None, "the settings are settled"
    return settings.deployed.architectures


def publish_pivot(runtime: Runtime) -> bytes:
    """Return what the pivot publishes about the public examples, where its model is.

    Raises:
        FedMosaicError: as :func:`fedmosaic.alignment.deployment.publish.publish`.
    """
    scenario = runtime.scenario
    pivot = runtime.backbone(scenario.alignment.pivot)
    examples, placement = runtime.alignment_data(), Placement.of(scenario.adapter)
    with runtime.naming("alignment"):
        return pack_published(publish(pivot, examples, scenario.alignment, placement))


def check_published(
    payload: bytes, settings: RunSettings, *, limit: int = SIZE_LIMIT, public: str = ""
) -> None:
    """Check at the server what a site published, before it goes to the other sites.

    Args:
        payload: the bytes.
        settings: the run, settled.
        limit: most bytes.
        public: fingerprint of the public examples; empty: not known here.

    Raises:
        UpdateError: too large, damaged, of another pivot, or about other public examples.
        ConfigError: with other settings of the alignment.
    """
    scenario = settings.scenario
    published = unpack_published(payload, limit=limit)
    if public and published.public != public:
        raise UpdateError(
            "the pivot published numbers about other public examples than the server's; use the "
            "same public data everywhere"
        )
    weights = _weights(settings)[scenario.alignment.pivot]
    require_agreement(published, weights, scenario.alignment, Placement.of(scenario.adapter))


def aligner_for(
    settings: RunSettings, weights: Mapping[str, str], pivot: str, own: str, payload: bytes
) -> Aligner | None:
    """Return what aligns a site's model; None where nothing has to be aligned or it is the pivot.

    Args:
        settings: the site's.
        weights: fingerprints of all models, by their names in the federation.
        pivot: name of the pivot there.
        own: name of the site's model there.
        payload: what the pivot published; empty for nothing.

    Raises:
        UpdateError: it is missing, damaged, or of another pivot.
        ConfigError: with other settings of the alignment.
    """
    scenario = settings.scenario
    if not weights or not is_aligned(settings.algorithm, scenario):
        return None
    if scenario.alignment.refine is not None:
        return StoredAligner(pivot, weights)
    if own == pivot:
        return None
    if not payload:
        raise UpdateError(
            f"the server sent nothing of the pivot {pivot}, to which model {own} must be aligned"
        )
    published = unpack_published(payload)
    require_agreement(published, weights[pivot], scenario.alignment, Placement.of(scenario.adapter))
    return PublishedAligner(published)
