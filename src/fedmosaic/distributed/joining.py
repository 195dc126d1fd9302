"""Settle at the server what depends on all sites, from what each says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedmosaic.adapters.placement import Placement
from fedmosaic.algorithms import Algorithm
from fedmosaic.alignment.identity import plain_name
from fedmosaic.config import ClientSpec, DeploymentRecord, RunSettings, SignatureRecord, TaskSpec
from fedmosaic.distributed.facts import SiteFacts
from fedmosaic.distributed.published import is_aligned
from fedmosaic.distributed.refusals import require_deployable, require_for_server_half
from fedmosaic.errors import ConfigError, ModelError, SiteError, nearest
from fedmosaic.federation.beginning import versions
from fedmosaic.federation.placement import settled_adapter
from fedmosaic.federation.pools import ModelPool
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.role_names import HasRoles, RoleName

Say = Callable[[str], None]
SMALLEST = "smallest"


def settle(
    settings: RunSettings,
    facts: Sequence[SiteFacts],
    say: Say = lambda line: None,
    models: ModelPool | None = None,
) -> RunSettings:
    """Return the settings with every choice made that depends on the sites.

    Clients of one model get one architecture. ``smallest`` becomes a model, and the modules are
    written out that all models share. What is settled stays when it is settled anew with more
    sites.

    Args:
        settings: the run, of :func:`fedmosaic.distributed.refusals.served`.
        facts: what the sites said of themselves so far. Clients without facts stay without models.
        say: called with a line for the user about each choice.
        models: loads a pivot that no client has.

    Raises:
        SiteError: a client is not expected, is there twice, has another version of fedmosaic, or
            its rank is not the scenario's.
        ConfigError: the federation cannot work across machines.
        ModelError: models do not go together.
    """
    algorithm = require_deployable(settings)
    sites = _Sites.of(settings, algorithm, facts)
    if not sites.facts:
        return settings
    relevance, signature = _signature_model(sites, say)
    scenario = settings.scenario
    chosen = {
        "clients": tuple(sites.recorded(spec) for spec in scenario.clients),
        "relevance": scenario.relevance.model_copy(update={"model": relevance}),
        "alignment": scenario.alignment.model_copy(update={"pivot": _pivot(sites, say)}),
    }
    scenario = scenario.model_copy(update=chosen)
    roles: list[HasRoles[RoleName]] = [one.roles(name) for name, one in sites.models.items()]
    architectures = sites.architectures
    if is_aligned(settings.algorithm, scenario) and scenario.alignment.pivot not in sites.models:
        own = _own_pivot(settings, scenario.alignment.pivot, models)
        roles.append(own)
        architectures = {**architectures, own.name: own.fingerprint}
    record = DeploymentRecord(architectures=architectures)
    found = {"scenario": scenario, "signature": signature, "deployed": record, "settled": True}
    settled = _with_shared_sites(settings.model_copy(update=found), algorithm, roles)
    require_deployable(settled)  # ranks and options, with every client's model known
    return settled


def settle_at_server(settings: RunSettings, facts: Sequence[SiteFacts], say: Say) -> RunSettings:
    """Settle as :func:`settle`, with the models and public data that the server itself has.

    Raises:
        FedMosaicError: as :func:`settle`, or the server lacks what its half computes with.
    """
    models = ModelPool(settings.scenario.models, settings.started)
    settled = settle(settings, facts, say, models)
    here = Runtime(settled, models)
    require_for_server_half(settled, lambda name: here.backbone(name).fingerprint, here.public)
    return settled


@dataclass(frozen=True)
class _Sites:
    """Hold what is known of the sites.

    Attributes:
        settings: the run.
        algorithm: its algorithm.
        facts: what each site said of itself, in roster order.
        labels: name of the architecture of each client.
        models: facts of the first site with each architecture, by its name.
        architectures: fingerprint of each architecture, also of sites that have left.
    """

    settings: RunSettings
    algorithm: Algorithm
    facts: Sequence[SiteFacts]
    labels: Mapping[str, str]
    models: Mapping[str, SiteFacts]
    architectures: dict[str, str]

    @classmethod
    def of(cls, settings: RunSettings, algorithm: Algorithm, facts: Sequence[SiteFacts]) -> _Sites:
        """Check each site and name the architectures."""
        _check_names(settings, facts)
        by_name = {one.name: one for one in facts}
        ordered = [by_name[c.name] for c in settings.scenario.clients if c.name in by_name]
        for one in ordered:
            _check_site(settings, algorithm, one)
        architectures, labels = _labels(settings, ordered)
        models: dict[str, SiteFacts] = {}
        for one in ordered:
            models.setdefault(labels[one.name], one)
        return cls(settings, algorithm, ordered, labels, models, architectures)

    def recorded(self, spec: ClientSpec) -> ClientSpec:
        """Return a client as the run records it: its architecture, and its tasks by name alone."""
        one = next((one for one in self.facts if one.name == spec.name), None)
        if one is None:
            return spec
        tasks = tuple(TaskSpec(name=name) for name in one.tasks)
        changes = {"model": self.labels[one.name], "tasks": tasks, "r": one.r or spec.r}
        return spec.model_copy(update=changes)


def _check_names(settings: RunSettings, facts: Sequence[SiteFacts]) -> None:
    expected = [client.name for client in settings.scenario.clients]
    seen: set[str] = set()
    for one in facts:
        if one.name not in expected:
            raise SiteError(
                f"client {one.name!r} is not expected.{nearest(one.name, expected)} Name it under "
                "clients in the scenario, or correct `name` in the client's file"
            )
        if one.name in seen:
            raise SiteError(
                f"client {one.name!r} is there twice; every client needs a name of its own"
            )
        seen.add(one.name)


def _check_site(settings: RunSettings, algorithm: Algorithm, one: SiteFacts) -> None:
    own, theirs = versions()["fedmosaic"], one.versions.get("fedmosaic", "unknown")
    if own != theirs:
        raise SiteError(
            f"client {one.name!r} has fedmosaic {theirs}, the server {own}; install one version "
            "everywhere"
        )
    spec = next(client for client in settings.scenario.clients if client.name == one.name)
    joined = settings.deployed.architectures.get(spec.model) if settings.deployed else None
    if joined not in (None, one.weights):
        raise SiteError(
            f"client {one.name!r} comes back with another model (fingerprint {one.weights}) than "
            f"it joined with, {spec.model} ({joined}); start its site with that model"
        )
    default = settings.scenario.adapter.r
    expected, found = settings.scenario.rank_of(one.name), one.r or default
    if expected != found:
        raise SiteError(
            f"client {one.name!r}: its site has r = {found}, the scenario {expected}; write one "
            "number in both, or leave it out of the scenario's clients"
        )
    if not one.sends_lora and not (
        algorithm.shares_subspaces and settings.scenario.adapter.num_blocks
    ):
        raise SiteError(
            f"client {one.name!r} sends no LoRA (share.lora: false), and {settings.algorithm} "
            "exchanges nothing else; set share.lora: true, or choose an algorithm that shares P "
            "and Q, such as fedmosaic"
        )


def _labels(
    settings: RunSettings, facts: Sequence[SiteFacts]
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the fingerprint of each architecture by its name, and the name for each client.

    Models with equal weights are one architecture, under the name that comes first. A name that two
    models have is made longer for the second one.
    """
    known = dict(settings.deployed.architectures) if settings.deployed else {}
    labels: dict[str, str] = {}
    for one in facts:
        label = next((name for name, weights in known.items() if weights == one.weights), None)
        if label is None:
            label = one.architecture
            if label in known:
                label = f"{label}-{one.weights[:8]}"
            known[label] = one.weights
        labels[one.name] = label
    return known, labels


def _signature_model(sites: _Sites, say: Say) -> tuple[str, SignatureRecord | None]:
    """Return the model that computes signatures, and how it does if that is known.

    It describes prompts, too. Where only that is needed, a model without a signature will do.
    """
    settings, models = sites.settings, sites.models
    named = settings.scenario.relevance.model
    by_size = sorted(models, key=lambda label: models[label].parameters)
    signs = sites.algorithm.computes_signatures
    if not (signs or sites.algorithm.reads_prompts):
        return (by_size[0] if named == SMALLEST else plain_name(named)), None
    reasons: dict[str, str] = {}
    for label in by_size if named == SMALLEST else [plain_name(named)]:
        if label not in models:
            if settings.signature is None:
                what = "signatures are computed" if signs else "prompts are described"
                say(f"{what} by {label}, which every site must have")
            return label, settings.signature
        reason = _no_signature(models[label], sites.facts, signs)
        if not reason and not signs:
            return label, None
        if not reason:
            if named == SMALLEST:
                say(f"signatures are computed by {label}, the smallest model that can do so")
            found, skipped = models[label].signature, reasons
            if settings.signature is not None:
                skipped = settings.signature.skipped
            content = {"method": found.method, "layer": found.layer, "skipped": skipped}
            return label, SignatureRecord.model_validate(content)
        reasons[label] = reason
    raise ModelError(
        f"{settings.name}: relevance.model: "
        + "; ".join(f"{label} {reason}" for label, reason in reasons.items())
        + ". One model computes the signatures of all clients: name another one, which every site "
        "can have"
    )


def _no_signature(model: SiteFacts, facts: Sequence[SiteFacts], signs: bool) -> str:
    """Return why a model cannot serve all clients; empty if it can.

    Args:
        model: the model.
        facts: of all clients.
        signs: whether it computes signatures, not features of prompts alone.
    """
    if signs and model.signature.method == "no":
        return f"can give no signature: {model.signature.reason}"
    pictured = next((one.name for one in facts if one.trains_on_images), None)
    if pictured is not None and not model.takes_images:
        return f"takes no images, and client {pictured!r} trains on some"
    return ""


def _pivot(sites: _Sites, say: Say) -> str:
    """Return the model that the others are aligned to."""
    scenario = sites.settings.scenario
    if scenario.alignment.pivot != SMALLEST:
        return plain_name(scenario.alignment.pivot)
    pivot = min(sites.models, key=lambda label: sites.models[label].parameters)
    if is_aligned(sites.settings.algorithm, scenario):
        say(f"models are aligned to {pivot}, the smallest")
    return pivot


def _own_pivot(settings: RunSettings, pivot: str, models: ModelPool | None) -> Backbone:
    """Return the server's model of a pivot that no client has."""
    if models is None:
        raise ConfigError(
            f"{settings.name}: alignment.pivot: no client has the model {pivot!r}; name a client's"
        )
    try:
        return models.backbone(pivot)
    except ModelError as error:
        raise ConfigError(
            f"{settings.name}: alignment.pivot: no client has the model {pivot!r}, and the server "
            f"has none either: {error}"
        ) from error


def _with_shared_sites(
    settings: RunSettings, algorithm: Algorithm, models: Sequence[HasRoles[RoleName]]
) -> RunSettings:
    """Return the settings with the modules written out that all models share."""
    scenario, shares = settings.scenario, algorithm.shares_subspaces
    for model in models:
        if shares and scenario.adapter.num_blocks:
            try:
                Placement.of(scenario.adapter).block_ends(model.num_layers)
            except ModelError as error:
                raise ModelError(f"{settings.name}: model {model.name}: {error}") from error
    adapter = settled_adapter(models, scenario.adapter, shares)
    changed = scenario.model_copy(update={"adapter": adapter})
    return settings.model_copy(update={"scenario": changed})
