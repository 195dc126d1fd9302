"""Refuse models that cannot take the items of a task, before anything trains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedmosaic.config import ClientSpec, TaskSpec
from fedmosaic.data.check import location
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError, FedMosaicError
from fedmosaic.federation.measure import most_items
from fedmosaic.federation.runtime import Runtime
from fedmosaic.models.item_check import first_refusal

Trained = tuple[ClientSpec, TaskSpec]


def trained_tasks(runtime: Runtime, client: ClientSpec) -> list[Trained]:
    """Return the tasks that a client's model trains on, each with the client that has it."""
    clients = runtime.scenario.clients
    # An algorithm without a budget trains on the data of all clients.
    chosen = [client] if runtime.algorithm.budgeted else clients
    return [(owner, task) for owner in chosen for task in owner.tasks]


def check_items(
    runtime: Runtime,
    client: ClientSpec,
    trained: Iterable[Trained],
    measured: Sequence[TaskSpec],
) -> None:
    """Require that a client's model takes all items that it is trained or measured on.

    Args:
        runtime: loads model and tasks.
        client: the client.
        trained: tasks whose training items it trains on.
        measured: tasks whose test items it is measured on.

    Raises:
        FedMosaicError: names client, task, item, model and the way out.
    """
    learned = {task.name: task for _, task in trained}
    wanted = [(task, "train") for task in learned.values()] + [(task, "test") for task in measured]
    for task, split in wanted:
        error = refusal(runtime, client.model, task, split)
        if error is not None:
            way_out = "" if task.name in learned else ", or set evaluation.others to false"
            with runtime.naming(f"clients.{runtime.scenario.clients.index(client)}.model"):
                raise type(error)(f"client {client.name!r}: {error}{way_out}") from error
    if runtime.algorithm.reads_prompts:
        for task, split in wanted:
            _require_prompts(runtime, client, task, split)
    if runtime.algorithm.needs_public:
        _check_public(runtime, client)


def _require_prompts(runtime: Runtime, client: ClientSpec, task: TaskSpec, split: str) -> None:
    """Require that all items have a prompt, where inputs are compared with prompts."""
    examples = _examples(runtime, task, split)
    for index, example in enumerate(examples):
        if len(example.turns) == 1:
            where = location(f"{split} of {task.name}", examples, index)
            raise DataError(
                f"{runtime.settings.name}: client {client.name!r}: {where}: plain text without a "
                "prompt, and inputs are compared with the prompts that a client trained on: give "
                "it a question, or take an algorithm without experts and leave routed views out "
                "of evaluation.views"
            )


def refusal(runtime: Runtime, model: str, task: TaskSpec, split: str) -> FedMosaicError | None:
    """Return why a model cannot take a task's ``train`` or ``test`` items; None if it can."""
    examples = _examples(runtime, task, split)

    def search() -> FedMosaicError | None:
        refused = first_refusal(runtime.backbone(model), examples)
        if refused is None:
            return None
        where = location(f"{split} of {task.name}", examples, refused.index)
        return type(refused.reason)(f"{where}: {refused.reason}")

    key = f"refusal {runtime.architecture(model)} {task.name} {split}"
    error: FedMosaicError | None = runtime.cached(key, search)
    return error


def _examples(runtime: Runtime, task: TaskSpec, split: str) -> Sequence[Example]:
    """Return the items of a task to check: those of its files, and of others those that are used.

    Items that are made on access take longer to make than to check.
    """
    found = runtime.task(task)
    if split == "train":
        return found.train
    if isinstance(found.test, list | tuple):
        return found.test
    return runtime.test_set(task, most_items(runtime.scenario))


def _check_public(runtime: Runtime, client: ClientSpec) -> None:
    """Require that a client's model takes the public examples that the algorithm works on."""
    backbone, public = runtime.backbone(client.model), runtime.public()
    refused = first_refusal(backbone, public)
    if refused is not None:
        with runtime.naming("data.public"):
            where = location("public", public, refused.index)
            raise type(refused.reason)(f"client {client.name!r}: {where}: {refused.reason}")
    models = {runtime.architecture(name) for name in runtime.scenario.models_used}
    if runtime.algorithm.maps_predictions and len(models) > 1:
        with runtime.naming(runtime.field_of(client.model)):
            backbone.token_origins(public[0])  # raises where they cannot be known
