"""Choose and check the model of a run that computes signatures, before anything trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedmosaic.config import SignatureRecord, TaskSpec
from fedmosaic.errors import ModelError
from fedmosaic.federation.item_check import Trained, refusal
from fedmosaic.federation.measure import measured_tasks
from fedmosaic.federation.runtime import Runtime
from fedmosaic.relevance import signature_kind


def choose_signature_model(runtime: Runtime) -> tuple[str, SignatureRecord | None]:
    """Return the model that computes signatures, and how it does; None if no signature is needed.

    It also describes prompts where inputs are routed. ``relevance.model: smallest`` takes the model
    with the fewest parameters that can do what is needed for every client.

    Raises:
        ModelError: the model, or with ``smallest`` every model of the scenario, cannot take an item
            that a client trains on or is routed on, or can give no signature.
    """
    named, models = runtime.scenario.relevance.model, runtime.scenario.models_used
    by_size = sorted(models, key=runtime.parameter_count) if named == "smallest" else [named]
    signs, reads = runtime.algorithm.computes_signatures, runtime.algorithm.reads_prompts
    if not (signs or reads):
        return by_size[0], None
    trained = [(client, task) for client in runtime.scenario.clients for task in client.tasks]
    reasons: dict[str, str] = {}
    for name in by_size:
        reason = _refused_items(runtime, name, trained)
        if not reason and reads:
            scenario = runtime.scenario
            # Where others' tasks are measured, all clients are measured on the same ones.
            asked = scenario.clients[:1] if scenario.evaluation.others else scenario.clients
            tasks = [task for client in asked for task in measured_tasks(scenario, client)]
            reason = _refused_inputs(runtime, name, tasks)
        if not reason and not signs:
            return name, None
        if not reason:
            kind = signature_kind(runtime.backbone(name))
            if kind.method != "no":
                return name, SignatureRecord(method=kind.method, layer=kind.layer, skipped=reasons)
            reason = f"can give no signature: {kind.reason}"
        reasons[name] = reason
    raise ModelError(_refusal(runtime, reasons))


def check_signature_items(
    runtime: Runtime, trained: Iterable[Trained], routed: Sequence[TaskSpec] = ()
) -> None:
    """Raise ModelError if the signature model cannot take what it is needed for.

    Args:
        runtime: its ``relevance.model`` is a model's name.
        trained: clients, each with a task that it trains on.
        routed: tasks whose test items are routed where the algorithm compares prompts.
    """
    name, algorithm = runtime.scenario.relevance.model, runtime.algorithm
    routes = bool(routed) and algorithm.reads_prompts
    reason = ""
    if algorithm.computes_signatures or algorithm.publishes_prototypes or routes:
        reason = _refused_items(runtime, name, trained)
    if routes and not reason:
        reason = _refused_inputs(runtime, name, routed)
    if reason:
        raise ModelError(_refusal(runtime, {name: reason}))


def _refused_items(runtime: Runtime, name: str, trained: Iterable[Trained]) -> str:
    """Return why a model cannot compute the signatures of these clients; empty if it can."""
    for client, task in trained:
        error = refusal(runtime, name, task, "train")
        if error is not None:
            return f"cannot take an item that client {client.name!r} trains on: {error}"
    return ""


def _refused_inputs(runtime: Runtime, name: str, tasks: Iterable[TaskSpec]) -> str:
    """Return why a model cannot compute features of all test items of tasks; empty if it can."""
    for task in tasks:
        error = refusal(runtime, name, task, "test")
        if error is not None:
            return f"cannot take an input that is to be routed: {error}"
    return ""


def _refusal(runtime: Runtime, reasons: dict[str, str]) -> str:
    """Return the error for models that are all unusable."""
    found = "; ".join(f"{name} {reason}" for name, reason in reasons.items())
    if runtime.scenario.relevance.model == "smallest":
        found = f"smallest: no model of the scenario can compute all signatures: {found}"
    return (
        f"{runtime.settings.name}: relevance.model: {found}. One model computes the signatures of "
        "all clients: name another model, which need not be a client's"
    )
