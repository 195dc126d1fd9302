"""Check at a site that its client can take part, and describe to the server what it will send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from fedmosaic.adapters.coverage import Coverage, adapted
from fedmosaic.algorithms import make_algorithm
from fedmosaic.config import ClientSpec, RunSettings, Settings, SiteSettings
from fedmosaic.config.load import parse
from fedmosaic.data.example import fingerprint
from fedmosaic.distributed.facts import Hex, SiteFacts, Text
from fedmosaic.distributed.published import is_aligned
from fedmosaic.errors import ConfigError, ModelError, SiteError, UpdateError
from fedmosaic.federation.instructions import Introduction
from fedmosaic.federation.introduce import introduction
from fedmosaic.federation.item_check import check_items, trained_tasks
from fedmosaic.federation.measure import measured_tasks
from fedmosaic.federation.placement import placement
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.signature_choice import check_signature_items
from fedmosaic.federation.wire import Expected


class Prepared(Settings):
    """Hold what the server learns of a client that is ready to train."""

    samples: int = Field(ge=1)
    """Number of training items."""

    tensors: dict[Text, tuple[Literal["float", "integer"], tuple[int, ...]]] = Field(
        max_length=1_000_000
    )
    """Kind and shape of each tensor of an update."""

    public: Hex | Literal[""]
    """Fingerprint of the public examples; empty: there are none."""

    coverage: Coverage
    """What of the model carries adapters."""


def prepare(
    runtime: Runtime, spec: ClientSpec, site: SiteSettings, shared: Mapping[str, Any]
) -> Prepared:
    """Load, check and align everything that the client needs, before the first round.

    Args:
        runtime: of :func:`fedmosaic.distributed.shared.site_runtime`.
        spec: the client.
        site: what the site says of itself.
        shared: what the server sent.

    Raises:
        FedMosaicError: the model cannot take an item, or a model that the server names is not here
            or has other weights; the message says so.
    """
    _require_signature_model(runtime, site, shared)
    trained = trained_tasks(runtime, spec)
    measured = measured_tasks(runtime.scenario, spec)
    check_items(runtime, spec, trained, measured)
    check_signature_items(runtime, trained, measured)
    own = introduction(runtime, spec)
    tensors = {
        name: (expected.kind, expected.shape)
        for name, expected in own.schema.items()
        if site.share.lora or not name.startswith("layer.")
    }
    examples = runtime.public()
    if is_aligned(runtime.settings.algorithm, runtime.scenario):
        examples = runtime.alignment_data()
    coverage = adapted(runtime.backbone(spec.model), runtime.scenario.adapter)
    return Prepared(
        samples=own.samples,
        tensors=tensors,
        public=fingerprint(examples) if examples else "",
        coverage=coverage,
    )


def _require_signature_model(
    runtime: Runtime, site: SiteSettings, shared: Mapping[str, Any]
) -> None:
    """Require that the site has the model that all share, with the same weights."""
    if not (runtime.algorithm.computes_signatures or runtime.algorithm.reads_prompts):
        return
    label = shared["settings"]["scenario"]["relevance"]["model"]
    way_out = f"name this site's copy under replace_models, e.g. {{{label}: /models/copy}}"
    try:
        found = runtime.backbone(runtime.scenario.relevance.model).fingerprint
    except ModelError as error:
        raise ModelError(
            f"client {site.name}: relevance.model: all clients of the federation need "
            f"{label!r}, which is not here ({error}); {way_out}"
        ) from error
    wanted = shared["architectures"].get(label, found)
    if found != wanted:
        raise ModelError(
            f"client {site.name}: relevance.model: {label!r} has other weights here (fingerprint "
            f"{found}) than in the federation ({wanted}); {way_out}"
        )


def read_prepared(content: Any, origin: str) -> Prepared:
    """Check what came from a site.

    Raises:
        UpdateError: it is damaged; begins with ``origin``.
    """
    try:
        return parse(Prepared, content, origin)
    except ConfigError as error:
        raise UpdateError(str(error)) from error


def introductions(
    settings: RunSettings, facts: Mapping[str, SiteFacts], prepared: Mapping[str, Prepared]
) -> dict[str, Introduction]:
    """Return the introductions of the clients that are ready, in roster order.

    A client that sends no LoRA is the only one of its architecture.

    Args:
        settings: the run, settled.
        facts: what each site said of itself, by client.
        prepared: what each ready client answered, by client.

    Raises:
        SiteError: two sites have different public examples.
    """
    found: dict[str, Introduction] = {}
    first = ""
    for client in settings.scenario.clients:
        if client.name not in prepared:
            continue
        own = prepared[client.name]
        first = first or client.name
        if own.public != prepared[first].public:
            raise SiteError(
                f"clients {first!r} and {client.name!r} have different public examples under the "
                f"name {settings.scenario.data.public!r}; give both the same files"
            )
        sends_lora = facts[client.name].sends_lora
        found[client.name] = Introduction(
            architecture=client.model if sends_lora else f"{client.model} of {client.name}",
            samples=own.samples,
            families=(),
            schema={name: Expected(kind, shape) for name, (kind, shape) in own.tensors.items()},
        )
    return found


def describe_sites(
    settings: RunSettings, facts: Mapping[str, SiteFacts], prepared: Mapping[str, Prepared]
) -> dict[str, Any]:
    """Return what carries adapters in each model, as :func:`~..federation.placement.describe`."""
    algorithm = make_algorithm(settings.algorithm, settings.scenario, settings.seed)
    clients = [client for client in settings.scenario.clients if client.name in prepared]
    names = list(dict.fromkeys(client.model for client in clients))
    users = {name: [client.name for client in clients if client.model == name] for name in names}
    models = {name: facts[users[name][0]].roles(name) for name in names}
    coverage = {name: prepared[users[name][0]].coverage for name in names}
    shared = list(models.values()) if algorithm.shares_subspaces else []
    return placement(algorithm, models, coverage, users, shared)
