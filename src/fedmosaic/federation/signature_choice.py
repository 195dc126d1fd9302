"""Choose and check the model of a run that computes signatures, before anything trains."""

from __future__ import annotations

from collections.abc import Iterable

from fedmosaic.config import ClientSpec, SignatureRecord, TaskSpec
from fedmosaic.data.example import with_images
from fedmosaic.errors import ModelError
from fedmosaic.federation.runtime import Runtime
from fedmosaic.relevance import signature_kind

NO_SIGNATURE = "can give no signature"


def choose_signature_model(runtime: Runtime) -> tuple[str, SignatureRecord | None]:
    """Return the model that computes signatures, and how it does; None if no signature is needed.

    ``relevance.model: smallest`` takes the model with the fewest parameters that can give a
    signature for every client.

    Raises:
        ModelError: the model, or with ``smallest`` every model of the scenario, takes text only
            while a client trains on images, or can give no signature.
    """
    named, models = runtime.scenario.relevance.model, runtime.scenario.models_used
    by_size = sorted(models, key=runtime.parameter_count) if named == "smallest" else [named]
    if not runtime.algorithm.computes_signatures:
        return by_size[0], None
    trained = [(client, task) for client in runtime.scenario.clients for task in client.tasks]
    reasons: dict[str, str] = {}
    for name in by_size:
        reason = _lacks_images(runtime, name, trained)
        if not reason:
            kind = signature_kind(runtime.backbone(name))
            if kind.method != "no":
                return name, SignatureRecord(method=kind.method, layer=kind.layer, skipped=reasons)
            reason = f"{NO_SIGNATURE}: {kind.reason}"
        reasons[name] = reason
    raise ModelError(_refusal(runtime, reasons))


def check_signature_images(
    runtime: Runtime, trained: Iterable[tuple[ClientSpec, TaskSpec]]
) -> None:
    """Raise ModelError if the signature model takes text only and one of these tasks has images.

    Args:
        runtime: its ``relevance.model`` is a model's name.
        trained: clients, each with a task that it trains on.
    """
    name = runtime.scenario.relevance.model
    if runtime.algorithm.computes_signatures:
        reason = _lacks_images(runtime, name, trained)
        if reason:
            raise ModelError(_refusal(runtime, {name: reason}))


def _lacks_images(
    runtime: Runtime, name: str, trained: Iterable[tuple[ClientSpec, TaskSpec]]
) -> str:
    """Return why a text-only model cannot compute these clients' signatures; empty if it can."""
    if runtime.backbone(name).vision:
        return ""
    for client, task in trained:
        example = with_images(runtime.task(task).train)
        if example is not None:
            return (
                f"takes text only, but client {client.name!r} trains on images (task "
                f"{task.name!r}, item {example.id!r})"
            )
    return ""


def _refusal(runtime: Runtime, reasons: dict[str, str]) -> str:
    """Return the error for models that are all unusable."""
    found = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
    if runtime.scenario.relevance.model == "smallest":
        found = f"smallest: no model of the scenario can compute all signatures: {found}"
    lacks_images = any(NO_SIGNATURE not in reason for reason in reasons.values())
    return (
        f"{runtime.settings.name}: relevance.model: {found}. One model computes the signatures of "
        f"all clients: name {'a vision-language' if lacks_images else 'another'} model, which need "
        "not be a client's"
    )
