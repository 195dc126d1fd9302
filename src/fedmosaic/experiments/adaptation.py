"""Fast adaptation: how soon what a run has made of its clients learns a task that nobody trained on.

adaptation.json in the run folder holds the accuracy of every client on every task after 0, ``every``, 2 ``every``, … local steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from fedmosaic.config import RunSettings, Settings, TaskSpec
from fedmosaic.config.load import parse
from fedmosaic.data import ClientStream
from fedmosaic.errors import CheckpointError, ConfigError, TrainingError, nearest
from fedmosaic.experiments.rehearsal import give_steps
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.measure import measure
from fedmosaic.federation.round_loop import FederationServer
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime, prepare_torch
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import pack, read_tensors, unpack
from fedmosaic.files import write_atomic

FILE = "adaptation.json"
ADAPTED, FRESH, RECEIVED = KINDS = "adapted", "fresh", "received"
Told = Callable[[str, str, str, Sequence[float]], None]


class Adaptation(Settings):
    """What is measured.

    Attributes:
        tasks, clients: their names. every: local steps between two measurements. points: measurements after the first.
        items: test examples a task; None: all.
    """

    tasks: tuple[str, ...] = Field(min_length=1)
    clients: tuple[str, ...] = Field(min_length=1)
    every: int = Field(default=10, ge=1)
    points: int = Field(default=5, ge=1)
    items: int | None = Field(default=None, ge=1)


def planned(
    settings: RunSettings,
    tasks: Sequence[str] = (),
    clients: Sequence[str] = (),
    *,
    every: int = 10,
    points: int = 5,
    items: int | None = None,
) -> Adaptation:
    """The plan for a run: by default all clients on the scenario's unseen tasks. Raises ConfigError for what cannot be."""
    scenario = settings.scenario
    chosen = list(tasks) or [spec.name for spec in scenario.unseen]
    if not chosen:
        raise ConfigError(
            f"{settings.name} has no unseen tasks; name those to adapt to, e.g. --tasks miniature/caption-0"
        )
    names = [client.name for client in scenario.clients]
    for client in clients:
        if client not in names:
            raise ConfigError(f"{settings.name} has no client {client!r}.{nearest(client, names)}")
    content = {
        "tasks": chosen,
        "clients": list(clients) or names,
        "every": every,
        "points": points,
        "items": items,
    }
    return parse(Adaptation, content, "adapt")


def adapt(
    folder: RunFolder,
    settings: RunSettings,
    plan: Adaptation,
    *,
    fresh: bool = False,
    received: bool = False,
    told: Told | None = None,
) -> dict[str, Any]:
    """Measure whatever of the plan is not in the folder yet.

    Every client starts from its state after the last round and what the server would send it next, and trains on one new task
    alone: local steps of its own algorithm at its own rates, Adam's moments from zero, a constant schedule, nothing sent or
    received any more. Each (client, task) starts from there again. The run itself stays as it is.

    Args:
        fresh: measure the same from adapters as they were before the first round, for comparison.
        received: measure the same from what the server would send next, in place of the client's own adapter
            (:meth:`fedmosaic.algorithms.base.Algorithm.start_from_received`): how fast the aggregated adapter adapts.
        told: called with client, task, ``"adapted"``, ``"fresh"`` or ``"received"`` and the accuracies, as soon as they are there.

    Returns:
        ``{"settings": plan, "adapted": {client: {task: accuracies [points + 1]}}, "fresh": the same or {}, "received": likewise}``,
        as in the file.

    Raises:
        CheckpointError: the run has not finished. ConfigError: the folder holds a measurement with other settings, or the
            algorithm does not train on what its clients have. TrainingError: training diverges.
    """
    checkpoint = folder.latest()
    if checkpoint is None or folder.summary() is None:
        raise CheckpointError(
            f"{folder.path} has not finished; continue it with: fedmosaic run --resume {folder.path}"
        )
    prepare_torch(settings)
    scenario = settings.scenario
    constant = scenario.model_copy(
        update={"train": scenario.train.model_copy(update={"schedule": "constant"})}
    )
    runtime = Runtime(give_steps(settings.model_copy(update={"scenario": constant}), plan.every))
    if not runtime.algorithm.budgeted:
        raise ConfigError(
            f"{settings.algorithm} trains on everybody's data, not on a new task; it cannot adapt"
        )
    content = _begun(folder.path / FILE, plan)
    downloads = _downloads(runtime, checkpoint)
    known = {spec.name: spec for spec in scenario.unseen}
    specs = [known.get(name, TaskSpec(name=name)) for name in plan.tasks]
    for kind in [ADAPTED, *([FRESH] if fresh else []), *([RECEIVED] if received else [])]:
        for number, member in enumerate(scenario.clients):
            for spec in specs if member.name in plan.clients else ():
                curves = content[kind].setdefault(member.name, {})
                if spec.name in curves:
                    continue
                client = LocalClient(runtime, member, number)
                runtime.check_model(member, [spec])
                if kind != FRESH:
                    client.load(checkpoint / "clients" / f"{member.name}.safetensors")
                download = downloads[member.name] if kind != FRESH else None
                curves[spec.name] = list(
                    _learn(client, spec, plan, download, adopt=kind == RECEIVED)
                )
                write_atomic(folder.path / FILE, json.dumps(content, indent=1) + "\n")
                if told is not None:
                    told(member.name, spec.name, kind, curves[spec.name])
    return content


def read_adaptation(path: Path) -> dict[str, Any]:
    """What :func:`adapt` wrote. Raises CheckpointError if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        plan = Adaptation(**content["settings"])
        for kind in KINDS:
            for curves in content.setdefault(kind, {}).values():
                for values in curves.values():
                    if len(values) != plan.points + 1 or not all(
                        0 <= value <= 1 for value in values
                    ):
                        raise ValueError(
                            "a curve has another number of points, or a value that is no accuracy"
                        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}); remove it and measure again"
        ) from error
    return dict(content)


def complete(content: Mapping[str, Any], kind: str = ADAPTED) -> bool:
    """Whether all clients and tasks of the plan are measured: only then can means be compared."""
    wanted = {
        (client, task)
        for client in content["settings"]["clients"]
        for task in content["settings"]["tasks"]
    }
    return wanted == {(client, task) for client, curves in content[kind].items() for task in curves}


def mean_curve(curves: Mapping[str, Mapping[str, Sequence[float]]]) -> list[float]:
    """Mean over clients and tasks, by point."""
    every = [values for tasks in curves.values() for values in tasks.values()]
    return [sum(column) / len(every) for column in zip(*every, strict=True)]


def _begun(path: Path, plan: Adaptation) -> dict[str, Any]:
    """What has been measured already."""
    chosen = plan.model_dump(mode="json")
    if not path.is_file():
        return {"settings": chosen, **{kind: {} for kind in KINDS}}
    found = read_adaptation(path)
    for key, value in chosen.items():
        if found["settings"][key] != value:
            raise ConfigError(
                f"{path} was measured with {key} = {found['settings'][key]}, not {value}; repeat that, or remove the file"
            )
    return found


def _downloads(runtime: Runtime, checkpoint: Path) -> dict[str, bytes]:
    """What the server would send every client after the last round."""
    server = FederationServer(runtime, InProcess(runtime), RunFolder(checkpoint), Callback())
    tensors, scalars = read_tensors(checkpoint / "server.safetensors")
    server.state.load_state_dict(tensors, scalars["layout"])
    server.round = int(scalars["round"])
    return {
        member.name: pack(runtime.algorithm.download(server, member)) for member in server.members
    }


def _learn(
    client: LocalClient, spec: TaskSpec, plan: Adaptation, download: bytes | None, *, adopt: bool
) -> Iterator[float]:
    """The accuracy before and after every ``plan.every`` steps on the task."""
    runtime, task = client.runtime, client.runtime.task(spec, "tasks")
    scenario, algorithm, rounds = runtime.scenario, runtime.algorithm, runtime.scenario.rounds
    client.load_stream(
        ClientStream(
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
    )

    def score() -> float:
        with algorithm.view(client, algorithm.views[0]) as model:
            return measure(runtime, client.backbone, model, spec, plan.items).score

    with client.turn():
        client.round = rounds
        if download is not None:
            algorithm.receive(client, unpack(download))
        if adopt:
            algorithm.start_from_received(client)
        yield score()
        for point in range(plan.points):
            client.round = rounds + point
            client.stream.begin_round(point)
            try:
                client.trained()
            except TrainingError as error:
                raise TrainingError(
                    f"client {client.name!r}, task {spec.name!r}: {error}"
                ) from error
            yield score()
