"""A whole run, from settings to summary: the function behind ``fedmosaic run`` and ``fedmosaic.run``."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.algorithms import algorithm_class, algorithm_names, make_algorithm
from fedmosaic.config import RunSettings
from fedmosaic.errors import ConfigError, Interrupted, nearest
from fedmosaic.evaluation import Record, summarise
from fedmosaic.experiments.equal_compute import budgeted
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.round_loop import FederationServer
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime, choose_workers, prepare_torch, smallest_model
from fedmosaic.federation.transport import InProcess, Transport
from fedmosaic.federation.workers import Workers

PACKAGES = ("fedmosaic", "torch", "transformers", "peft", "numpy", "safetensors")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its summary (see :func:`summary_of`)."""

    folder: Path
    summary: Mapping[str, Any]


def new_run(settings: RunSettings, out: Path, callback: Callback | None = None) -> Run:
    """Check everything, make the run folder and run.

    Raises:
        FedMosaicError: naming what is wrong, before any training and before the folder is made.
    """
    settings = settings.model_copy(update={"versions": versions()})
    folder = RunFolder.vacant(out)
    _check_names(settings)
    prepare_torch(settings)
    runtime = Runtime(settings)
    runtime.use(resolve(runtime))
    with _running(runtime, out, callback) as (transport, listener):
        server = FederationServer(runtime, transport, folder, listener)
        folder.create(runtime.settings)
        return _finish(server)


def resume(path: Path, callback: Callback | None = None) -> Run:
    """Continue a run from its last checkpoint, or from its start if it was killed before the first one.

    A finished run is returned as it is.

    Raises:
        CheckpointError: no run folder, or one that cannot be continued.
    """
    folder, settings = RunFolder.open(path)
    done = folder.summary()
    if done is not None:
        return Run(path, done)
    folder.clear_leftovers()
    prepare_torch(settings)
    runtime = Runtime(settings)
    with _running(runtime, path, callback) as (transport, listener):
        server = FederationServer(runtime, transport, folder, listener)
        checkpoint = folder.latest()
        if checkpoint is None:
            folder.truncate(0)
        else:
            server.restore(checkpoint)
        return _finish(server)


def resolve(runtime: Runtime) -> RunSettings:
    """Replace what is chosen automatically by what was chosen, so that a run folder says it: models, steps, rounds.

    What is to be aligned is aligned here, once, before worker processes could each do it.
    """
    settings = runtime.settings
    scenario = settings.scenario
    if scenario.relevance.model == "smallest" or scenario.alignment.pivot == "smallest":
        name = smallest_model(runtime, scenario.models_used)
        changes: dict[str, Any] = {}
        if scenario.relevance.model == "smallest":
            changes["relevance"] = scenario.relevance.model_copy(update={"model": name})
        if scenario.alignment.pivot == "smallest":
            changes["alignment"] = scenario.alignment.model_copy(update={"pivot": name})
        runtime.use(settings.model_copy(update={"scenario": scenario.model_copy(update=changes)}))
    for model in scenario.models_used:
        runtime.alignment(model)
    return budgeted(runtime)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found


def summary_of(settings: RunSettings, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures of a run from the lines of its metrics file.

    Returns:
        ``{"self": {"last", "auc"}, "others": {"last", "auc", …}, "clients", "bytes", "seconds", …}``; see
        :func:`fedmosaic.evaluation.summarise` for the definitions. ``also`` holds Self and Others of what else was measured:
        before local training, and other views of the clients' models. ``memory``: the most that a process with clients held, in bytes.
    """
    scores = [Record.from_json(line) for line in lines if line["kind"] == "score"]
    rounds = [line for line in lines if line["kind"] == "round"]
    turns = [line for line in lines if line["kind"] == "client"]
    scenario = settings.scenario
    view = next(
        (v for v in scenario.evaluation.views if v in algorithm_class(settings.algorithm).views),
        "mixed",
    )
    measured = summarise(scores, scenario.clients, view=view)
    kinds = sorted({(record.view, record.stage) for record in scores} - {(view, "after")})
    also = {
        kind: summarise(scores, scenario.clients, view=kind[0], stage=kind[1]) for kind in kinds
    }
    return {
        "scenario": settings.name,
        "algorithm": settings.algorithm,
        "seed": settings.seed,
        "evaluation": {"choice": scenario.evaluation.method, "stage": "after", "view": view},
        "rounds": {"done": len(rounds), "of": scenario.rounds},
        **measured,
        "also": {
            f"{v}, {stage}": {p: found[p] for p in ("self", "others")}
            for (v, stage), found in also.items()
        },
        "steps": make_algorithm(settings.algorithm, scenario, settings.seed).steps,
        "flops": _flops(rounds, turns),
        "refused": sum(len(line["refused"]) for line in rounds),
        "bytes": {way: sum(line["bytes"][way] for line in rounds) for way in ("up", "down")},
        "seconds": {
            "total": sum(line["seconds"]["total"] for line in rounds),
            "train": sum(line["seconds"]["train"] for line in turns),
            "evaluate": sum(line["seconds"]["evaluate"] for line in turns),
            "server": sum(line["seconds"]["server"] for line in rounds),
            "checkpoint": sum(line["seconds"]["checkpoint"] for line in rounds),
        },
        "memory": max((line["memory"] for line in turns if "memory" in line), default=0),
    }


def _flops(
    rounds: Sequence[Mapping[str, Any]], turns: Sequence[Mapping[str, Any]]
) -> dict[str, float] | None:
    """Operations of the round that was counted: of a client, evaluation apart (mean over clients), and of the server."""
    local = [turn["flops"]["total"] for turn in turns if "flops" in turn]
    server = [line["flops"]["server"] for line in rounds if "flops" in line]
    return (
        {"client_round": math.fsum(local) / len(local), "server_round": server[0]}
        if local and server
        else None
    )


@contextmanager
def _running(
    runtime: Runtime, folder: Path, callback: Callback | None
) -> Iterator[tuple[Transport, Callback]]:
    """The transport of a run, closed at the end whatever happens; Ctrl-C says where to go on."""
    listener = callback or Callback()
    count = choose_workers(runtime.settings)
    transport: Transport = Workers(runtime, count) if count > 1 else InProcess(runtime)
    try:
        yield transport, listener
    except KeyboardInterrupt as stop:
        if (folder / "config.yaml").is_file():
            raise Interrupted(folder) from stop
        raise
    finally:
        listener.closed()
        transport.close()


def _finish(server: FederationServer) -> Run:
    folder = server.folder
    server.run()
    with folder.adapters() as work:
        server.transport.save_adapters(work)
    summary = summary_of(server.settings, folder.lines())
    folder.write_summary(summary)
    server.callback.run_finished(summary)
    return Run(folder.path, summary)


def _check_names(settings: RunSettings) -> None:
    """Names that only the algorithm and the scenario together can tell to be wrong."""
    algorithm = make_algorithm(settings.algorithm, settings.scenario, settings.seed)
    known = {view for name in algorithm_names() for view in algorithm_class(name).views} | set(
        algorithm.views
    )
    for view in settings.scenario.evaluation.views:
        if view not in known:
            raise ConfigError(f"evaluation.views: unknown view {view!r}.{nearest(view, known)}")
