"""Carry out the measurements of fast adaptation: train a finished run's clients on new tasks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.algorithms import algorithm_class
from fedmosaic.config import ClientSpec, RunSettings, TaskSpec
from fedmosaic.data import ClientStream
from fedmosaic.errors import CheckpointError, ConfigError, TrainingError
from fedmosaic.experiments.adaptation import ADAPTED, FILE, FRESH, RECEIVED, Adaptation, begun
from fedmosaic.federation.checkpoints import restore_server
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.client_store import trained_clients
from fedmosaic.federation.context import ServerContext
from fedmosaic.federation.introduce import begin
from fedmosaic.federation.item_check import check_items
from fedmosaic.federation.measure import measure
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.signature_choice import check_signature_items
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import pack, unpack
from fedmosaic.files import write_atomic

OnResult = Callable[[str, str, str, Sequence[float]], None]


def adapt(
    folder: RunFolder,
    settings: RunSettings,
    plan: Adaptation,
    *,
    fresh: bool = False,
    received: bool = False,
    on_result: OnResult | None = None,
) -> dict[str, Any]:
    """Measure whatever of the plan is not in the folder yet. The run itself stays as it is.

    Every client starts from its last state and from what the server would send it next. It trains
    on one new task alone, with its own algorithm and learning rates, Adam's moments from zero, a
    constant schedule and no further exchange. Each pair of client and task starts from there again.

    Args:
        folder: the folder of a finished run.
        settings: the run.
        plan: what is measured.
        fresh: also measure adapters as they were before the first round, for comparison.
        received: also measure what the server would send next in place of the client's own
            adapter (:meth:`fedmosaic.algorithms.base.Algorithm.start_from_received`).
        on_result: called with client, task, kind and scores after each measurement.

    Returns:
        ``{"settings": plan, "metrics": {task: metric}, "adapted": {client: {task: scores
        [points + 1]}}, "fresh": …, "received": …}``, as in the file.

    Raises:
        CheckpointError: the run has not finished, was across machines, or is of an earlier version.
        ConfigError: the folder holds a measurement of another plan, or the algorithm cannot adapt.
        TrainingError: training diverges.
    """
    checkpoint = _last_checkpoint(folder, settings)
    prepare_torch(settings)
    runtime = Runtime(_settings_for(settings, plan))
    content = begun(folder.path / FILE, plan)
    downloads = _downloads(runtime, checkpoint)
    for kind, spec, task in _measurements(settings, plan, fresh, received):
        content["metrics"][task.name] = runtime.task(task).metric
        curves = content[kind].setdefault(spec.name, {})
        if task.name in curves:
            continue
        client = _client(runtime, spec, task, None if kind == FRESH else checkpoint)
        download = None if kind == FRESH else downloads[spec.name]
        curves[task.name] = list(_learn(client, task, plan, download, kind == RECEIVED))
        write_atomic(folder.path / FILE, json.dumps(content, indent=1) + "\n")
        if on_result is not None:
            on_result(spec.name, task.name, kind, curves[task.name])
    return content


def _last_checkpoint(folder: RunFolder, settings: RunSettings) -> Path:
    """Return the last checkpoint of a finished run of this version, with all clients in it."""
    settings.require_simulated(folder.path, "new tasks can be learnt there alone")
    folder.require_current()
    checkpoint = folder.latest()
    if checkpoint is None or folder.summary() is None:
        raise CheckpointError(
            f"{folder.path} has not finished; continue it with: "
            f"fedmosaic run --resume {folder.path}"
        )
    return checkpoint


def _settings_for(settings: RunSettings, plan: Adaptation) -> RunSettings:
    """Return the run's settings with a constant schedule and ``plan.every`` steps per round."""
    scenario = settings.scenario
    train = scenario.train.model_copy(update={"schedule": "constant"})
    constant = scenario.model_copy(update={"train": train})
    if not algorithm_class(settings.algorithm).budgeted:
        raise ConfigError(
            f"{settings.algorithm} trains on the data of all clients, not on a new task; it "
            "cannot adapt"
        )
    return settings.model_copy(update={"scenario": constant}).with_steps(plan.every)


def _measurements(
    settings: RunSettings, plan: Adaptation, fresh: bool, received: bool
) -> Iterator[tuple[str, ClientSpec, TaskSpec]]:
    """Yield kind, client and task of every measurement."""
    known = {spec.name: spec for spec in settings.scenario.unseen}
    specs = [known.get(name, TaskSpec(name=name)) for name in plan.tasks]
    for kind in [ADAPTED, *([FRESH] if fresh else []), *([RECEIVED] if received else [])]:
        for client in settings.scenario.clients:
            for spec in specs if client.name in plan.clients else ():
                yield kind, client, spec


def _downloads(runtime: Runtime, checkpoint: Path) -> dict[str, bytes]:
    """Return what the server would send every client after the last round."""
    server = ServerContext(runtime, InProcess(runtime).introduce())
    restore_server(server, checkpoint)
    server.round = runtime.scenario.rounds
    return {
        member.name: pack(runtime.algorithm.download(server, member)) for member in server.members
    }


def _client(
    runtime: Runtime, spec: ClientSpec, task: TaskSpec, checkpoint: Path | None
) -> LocalClient:
    """Return a client in the state of a checkpoint; None: as before the first round."""
    client = LocalClient(runtime, spec)
    check_items(runtime, spec, [(spec, task)], [task])
    check_signature_items(runtime, [(spec, task)])
    trained = trained_clients(checkpoint / "clients") if checkpoint else set()
    if checkpoint and (trained is None or spec.name in trained):
        client.load(checkpoint / "clients" / f"{spec.name}.safetensors")
    else:
        begin(client)
    return client


def _learn(
    client: LocalClient,
    spec: TaskSpec,
    plan: Adaptation,
    download: bytes | None,
    start_from_received: bool,
) -> Iterator[float]:
    """Yield the score before training and after every ``plan.every`` steps on the task."""
    runtime, algorithm = client.runtime, client.algorithm
    rounds = runtime.scenario.rounds
    client.load_stream(_stream(client, spec, plan))

    def score() -> float:
        with algorithm.view(client.context, algorithm.views[0]) as model:
            return measure(runtime, client.backbone, model, spec, plan.items).score

    with client.turn() as context:
        context.round = rounds
        if download is not None:
            algorithm.receive(context, unpack(download))
        if start_from_received:
            algorithm.start_from_received(context)
        yield score()
        for point in range(plan.points):
            context.round = rounds + point
            client.stream.begin_round(point)
            try:
                client.trained()
            except TrainingError as error:
                raise TrainingError(
                    f"client {client.name!r}, task {spec.name!r}: {error}"
                ) from error
            yield score()


def _stream(client: LocalClient, spec: TaskSpec, plan: Adaptation) -> ClientStream:
    """Return a stream of the new task alone, all of which is there from the start."""
    runtime, scenario = client.runtime, client.runtime.scenario
    task = runtime.task(spec)
    return ClientStream(
        [task],
        rounds=plan.points,
        steps_per_round=plan.every,
        batch_size=scenario.train.batch_size,
        memory_size=scenario.memory.size,
        temperature=scenario.memory.temperature,
        decay=scenario.memory.decay,
        seed_parts=(runtime.settings.seed, client.name, "adaptation", task.name),
        arrive="at_once",
    )
