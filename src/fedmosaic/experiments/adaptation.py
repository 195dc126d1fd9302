"""Measure fast adaptation: how soon the clients of a finished run learn a new task.

``adaptation.json`` in the run folder holds the accuracy of every client on every task after 0,
``every``, 2 ``every``, … local steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fedmosaic.algorithms import algorithm_class
from fedmosaic.config import ClientSpec, RunSettings, Settings, TaskSpec
from fedmosaic.config.load import parse
from fedmosaic.data import ClientStream
from fedmosaic.errors import CheckpointError, ConfigError, TrainingError, nearest
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.context import ServerContext
from fedmosaic.federation.measure import measure
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.round_loop import restore_server
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import pack, unpack
from fedmosaic.files import write_atomic

FILE = "adaptation.json"
ADAPTED, FRESH, RECEIVED = KINDS = "adapted", "fresh", "received"

OnResult = Callable[[str, str, str, Sequence[float]], None]


class Adaptation(Settings):
    """Set what is measured."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Names of the tasks to learn."""

    clients: tuple[str, ...] = Field(min_length=1)
    """Names of the clients that learn them."""

    every: int = Field(default=10, ge=1)
    """Local steps between two evaluations."""

    points: int = Field(default=5, ge=1)
    """Number of evaluations after the first."""

    items: int | None = Field(default=None, ge=1)
    """Test examples a task. None: all."""


def planned(
    settings: RunSettings,
    tasks: Sequence[str] = (),
    clients: Sequence[str] = (),
    *,
    every: int = 10,
    points: int = 5,
    items: int | None = None,
) -> Adaptation:
    """Return the plan for a run: by default all clients on the scenario's unseen tasks.

    Raises:
        ConfigError: no tasks, an unknown client, or a number out of range.
    """
    scenario = settings.scenario
    chosen = list(tasks) or [spec.name for spec in scenario.unseen]
    if not chosen:
        raise ConfigError(
            f"{settings.name} has no unseen tasks; name those to adapt to, e.g. --tasks "
            "miniature/caption-0"
        )
    names = [client.name for client in scenario.clients]
    for client in clients:
        if client not in names:
            raise ConfigError(f"{settings.name} has no client {client!r}.{nearest(client, names)}")
    content = {"tasks": chosen, "clients": list(clients) or names, "items": items}
    return parse(Adaptation, {**content, "every": every, "points": points}, "adapt")


def adapt(
    folder: RunFolder,
    settings: RunSettings,
    plan: Adaptation,
    *,
    fresh: bool = False,
    received: bool = False,
    on_result: OnResult | None = None,
) -> dict[str, Any]:
    """Measure whatever of the plan is not in the folder yet.

    Every client starts from its last state and from what the server would send it next. It trains
    on one new task alone, with its own algorithm and learning rates, Adam's moments from zero, a
    constant schedule and no further exchange. Each pair of client and task starts from there
    again. The run itself stays as it is.

    Args:
        folder: the folder of a finished run.
        settings: the run.
        plan: what is measured.
        fresh: also measure adapters as they were before the first round, for comparison.
        received: also measure what the server would send next in place of the client's own
            adapter (:meth:`fedmosaic.algorithms.base.Algorithm.start_from_received`).
        on_result: called with client, task, kind (``"adapted"``, ``"fresh"`` or ``"received"``)
            and accuracies after each measurement.

    Returns:
        ``{"settings": plan, "adapted": {client: {task: accuracies [points + 1]}}, "fresh": …,
        "received": …}``, as in the file; a kind that was not measured is empty.

    Raises:
        CheckpointError: the run has not finished, or an earlier version made it.
        ConfigError: the folder holds a measurement with other settings, or the algorithm is an
            upper bound that trains on the data of all clients.
        TrainingError: training diverges.
    """
    checkpoint = _last_checkpoint(folder)
    prepare_torch(settings)
    runtime = Runtime(_settings_for(settings, plan))
    content = _begun(folder.path / FILE, plan)
    downloads = _downloads(runtime, checkpoint)
    kinds = [ADAPTED, *([FRESH] if fresh else []), *([RECEIVED] if received else [])]
    for kind, spec, task in _measurements(settings, plan, kinds):
        curves = content[kind].setdefault(spec.name, {})
        if task.name in curves:
            continue
        client = LocalClient(runtime, spec)
        runtime.check_model(spec, [task])
        if kind != FRESH:
            client.load(checkpoint / "clients" / f"{spec.name}.safetensors")
        download = None if kind == FRESH else downloads[spec.name]
        curve = _learn(client, task, plan, download, start_from_received=kind == RECEIVED)
        curves[task.name] = list(curve)
        write_atomic(folder.path / FILE, json.dumps(content, indent=1) + "\n")
        if on_result is not None:
            on_result(spec.name, task.name, kind, curves[task.name])
    return content


def read_adaptation(path: Path) -> dict[str, Any]:
    """Read a file that :func:`adapt` wrote.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plan = Adaptation(**content["settings"])
        for kind in KINDS:
            for curves in content.setdefault(kind, {}).values():
                for values in curves.values():
                    _check_curve(values, plan.points + 1)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); remove it and measure again"
        ) from error
    return dict(content)


def complete(content: Mapping[str, Any], kind: str = ADAPTED) -> bool:
    """Return whether all clients and tasks of the plan are measured, so that means compare."""
    wanted = {
        (client, task)
        for client in content["settings"]["clients"]
        for task in content["settings"]["tasks"]
    }
    return wanted == {(client, task) for client, curves in content[kind].items() for task in curves}


def mean_curve(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[float]:
    """Return the mean over clients and tasks at every point."""
    every = [values for tasks in curves.values() for values in tasks.values()]
    return [sum(column) / len(every) for column in zip(*every, strict=True)]


def _last_checkpoint(folder: RunFolder) -> Path:
    """Return the last checkpoint of a finished run of this version."""
    folder.require_current()
    checkpoint = folder.latest()
    if checkpoint is None or folder.summary() is None:
        raise CheckpointError(
            f"{folder.path} has not finished; continue it with: "
            f"fedmosaic run --resume {folder.path}"
        )
    return checkpoint


def _settings_for(settings: RunSettings, plan: Adaptation) -> RunSettings:
    """Return the run's settings with a constant schedule and ``plan.every`` steps a round."""
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
    settings: RunSettings, plan: Adaptation, kinds: Sequence[str]
) -> Iterator[tuple[str, ClientSpec, TaskSpec]]:
    known = {spec.name: spec for spec in settings.scenario.unseen}
    specs = [known.get(name, TaskSpec(name=name)) for name in plan.tasks]
    for kind in kinds:
        for client in settings.scenario.clients:
            for spec in specs if client.name in plan.clients else ():
                yield kind, client, spec


def _check_curve(values: Sequence[float], count: int) -> None:
    if len(values) != count or not all(0 <= value <= 1 for value in values):
        raise ValueError("a curve has another number of points, or a value that is no accuracy")


def _begun(path: Path, plan: Adaptation) -> dict[str, Any]:
    """Return what has been measured already."""
    chosen = plan.model_dump(mode="json")
    if not path.is_file():
        return {"settings": chosen, **{kind: {} for kind in KINDS}}
    found = read_adaptation(path)
    for key, value in chosen.items():
        if found["settings"][key] != value:
            raise ConfigError(
                f"{path} was measured with {key} = {found['settings'][key]}, not {value}; use the "
                "same settings, or remove the file"
            )
    return found


def _downloads(runtime: Runtime, checkpoint: Path) -> dict[str, bytes]:
    """Return what the server would send every client after the last round."""
    server = ServerContext(runtime, InProcess(runtime).introduce())
    restore_server(server, checkpoint)
    return {
        member.name: pack(runtime.algorithm.download(server, member)) for member in server.members
    }


def _learn(
    client: LocalClient,
    spec: TaskSpec,
    plan: Adaptation,
    download: bytes | None,
    *,
    start_from_received: bool,
) -> Iterator[float]:
    """Yield the accuracy before training and after every ``plan.every`` steps on the task."""
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
