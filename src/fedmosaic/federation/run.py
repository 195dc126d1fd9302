"""Carry out a run from settings to summary, or resume one."""

from __future__ import annotations

import gc
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.algorithms import algorithm_class, algorithm_names
from fedmosaic.config import RunSettings
from fedmosaic.errors import ConfigError, nearest
from fedmosaic.federation.beginning import begun, continuable
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.data_change import data_to_continue
from fedmosaic.federation.data_record import DataRecord
from fedmosaic.federation.grouping import warn_of_obstacles
from fedmosaic.federation.item_check import check_items, trained_tasks
from fedmosaic.federation.measure import measured_tasks
from fedmosaic.federation.placement import settle_sites
from fedmosaic.federation.processes import ForkServer
from fedmosaic.federation.resources import choose_workers, prepare_torch
from fedmosaic.federation.round_loop import RoundLoop
from fedmosaic.federation.run_folder import CLIENTS, RunFolder
from fedmosaic.federation.run_summary import summary_of
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.signature_choice import choose_signature_model
from fedmosaic.federation.transport import InProcess, Transport
from fedmosaic.federation.workers import Workers
from fedmosaic.memory import no_collection

ResolveBudget = Callable[[Runtime], RunSettings]
Connect = Callable[[Runtime, Path], Transport]
"""Reaches the clients of a run; the folder is for their states between turns."""


@dataclass(frozen=True)
class Run:
    """Hold a finished run.

    Attributes:
        folder: the run folder.
        summary: its figures, see :func:`fedmosaic.federation.run_summary.summary_of`.
    """

    folder: Path
    summary: Mapping[str, Any]


def steps_only(runtime: Runtime) -> RunSettings:
    """Return the settings unchanged, for the budget ``steps``, which needs no rehearsal.

    Raises:
        ConfigError: another budget.
    """
    kind = runtime.scenario.budget.kind
    if kind != "steps":
        raise ConfigError(
            f"{runtime.settings.name}: budget: {kind} needs a rehearsal; start the run with "
            "fedmosaic.run, or give new_run a resolve_budget"
        )
    return runtime.settings


def new_run(
    settings: RunSettings,
    out: Path,
    callback: Callback | None = None,
    *,
    resolve_budget: ResolveBudget = steps_only,
) -> Run:
    """Make the run folder, check everything and run.

    Args:
        settings: the run.
        out: its folder, empty or absent.
        callback: is notified of every event.
        resolve_budget: as for :func:`start`.

    Raises:
        FedMosaicError: names what is wrong, before any training. The folder is removed again.
    """
    with begun(settings, out) as (folder, recorded):
        return start(folder, recorded, callback, resolve_budget)


def start(
    folder: RunFolder,
    settings: RunSettings,
    callback: Callback | None = None,
    resolve_budget: ResolveBudget = steps_only,
    server: ForkServer | None = None,
    connect: Connect | None = None,
) -> Run:
    """Check everything, make the automatic choices, write them and run.

    Args:
        folder: the run folder, with the settings in it.
        settings: the run, as its folder records it.
        callback: is notified of every event.
        resolve_budget: returns the settings with the steps and rounds that the budget allows, see
            :func:`fedmosaic.experiments.equal_compute.resolve_budget`.
        server: is forked for the worker processes; None for fresh interpreters.
        connect: reaches the clients for another engine than ``local``.

    Raises:
        FedMosaicError: names what is wrong, before any training.
    """
    prepare_torch(settings)
    runtime = Runtime(settings)
    _check_views(runtime)
    runtime = runtime.with_settings(resolve(runtime, resolve_budget))
    record = DataRecord.of(runtime)
    with _running(runtime, folder.path, callback, server, connect) as (transport, listener):
        loop = RoundLoop(runtime, transport, folder, listener)
        loop.data = record.id
        folder.write_data_record(record)
        folder.create(runtime.settings)  # last: settled settings go with a record of the data
        return _finish(loop)


def resume(
    path: Path,
    callback: Callback | None = None,
    *,
    accept_data_change: bool = False,
    resolve_budget: ResolveBudget = steps_only,
    server: ForkServer | None = None,
    connect: Connect | None = None,
) -> Run:
    """Continue a run from its last checkpoint, or from its start if there is none yet.

    A finished run is returned as it is. A run that was stopped before its settings were settled is
    checked and settled now, as at its start; if it is refused, its folder stays.

    Args:
        path: the run folder.
        callback: is notified of every event.
        accept_data_change: continue even if the data has other content than at the start.
        resolve_budget: as for :func:`start`.
        server: as for :func:`start`.
        connect: as for :func:`start`.

    Raises:
        CheckpointError: no run folder, or one that cannot be continued.
        DataError: the data changed, see :func:`fedmosaic.federation.data_change.data_to_continue`.
    """
    folder, settings = RunFolder.open(path)
    done = folder.summary()
    if done is not None:
        return Run(path, done)
    settings.require_simulated(path, f"continue with: {settings.continue_command(path)}")
    folder.require_current()
    folder.clear_leftovers()
    with continuable(path):
        if settings.settled:
            return _go_on(folder, settings, callback, accept_data_change, server, connect)
        return start(folder, settings, callback, resolve_budget, server, connect)


def _go_on(
    folder: RunFolder,
    settings: RunSettings,
    callback: Callback | None,
    accept_data_change: bool,
    server: ForkServer | None,
    connect: Connect | None,
) -> Run:
    """Continue a run whose settings are settled."""
    prepare_torch(settings)
    runtime = Runtime(settings)
    record = data_to_continue(folder, runtime, accept_data_change)
    with _running(runtime, folder.path, callback, server, connect) as (transport, listener):
        loop = RoundLoop(runtime, transport, folder, listener)
        loop.data = record.id
        checkpoint = folder.latest()
        if checkpoint is None:
            folder.truncate(0)
        else:
            loop.restore(checkpoint)
        return _finish(loop)


def resolve(runtime: Runtime, resolve_budget: ResolveBudget = steps_only) -> RunSettings:
    """Replace automatic choices by what was chosen, for the run folder to record.

    These are the smallest models, how signatures are computed, the sites that all models share, and
    steps and rounds of a budget. Alignments are computed here, once, before several processes could
    each compute them. Before that, which may take minutes, all items of the clients are checked,
    and it is written what their readers do not use, rewrite or guess.

    Returns:
        the settings with every choice made.
    """
    scenario = runtime.scenario
    relevance, alignment = scenario.relevance, scenario.alignment
    name, signature = choose_signature_model(runtime)
    relevance = relevance.model_copy(update={"model": name})
    if alignment.pivot == "smallest":
        pivot = min(scenario.models_used, key=runtime.parameter_count)
        alignment = alignment.model_copy(update={"pivot": pivot})
    changed = scenario.model_copy(update={"relevance": relevance, "alignment": alignment})
    found = {"scenario": changed, "signature": signature}
    runtime = runtime.with_settings(runtime.settings.model_copy(update=found))
    runtime = runtime.with_settings(settle_sites(runtime))
    everything: set[str] = set()  # architectures that were measured on the tasks of all clients
    for client in scenario.clients:
        architecture = runtime.architecture(client.model)
        measured = [] if architecture in everything else measured_tasks(scenario, client)
        if scenario.evaluation.others:
            everything.add(architecture)
        with no_collection():
            check_items(runtime, client, trained_tasks(runtime, client), measured)
    gc.freeze()  # examples stay for the whole run: collections need not visit them
    for note in runtime.tasks.notes():
        warnings.warn(note, stacklevel=2)
    warn_of_obstacles(runtime)
    for model in scenario.models_used:
        runtime.alignment(model)
    return resolve_budget(runtime).model_copy(update={"settled": True})


@contextmanager
def _running(
    runtime: Runtime,
    folder: Path,
    callback: Callback | None,
    server: ForkServer | None,
    connect: Connect | None,
) -> Iterator[tuple[Transport, Callback]]:
    """Yield the run's transport, which is closed at the end in any case."""
    listener = callback or Callback()
    states = folder / CLIENTS
    transport = _local(runtime, states, server) if connect is None else connect(runtime, states)
    try:
        yield transport, listener
    finally:
        listener.closed()
        transport.close()
        shutil.rmtree(states, ignore_errors=True)


def _local(runtime: Runtime, states: Path, server: ForkServer | None) -> Transport:
    """Return the transport that reaches clients in this process or in workers of it."""
    engine = runtime.settings.engine
    if engine != "local":
        raise ConfigError(f"engine: {engine} needs fedmosaic.run or fedmosaic.resume")
    count = choose_workers(runtime.settings)
    if count > 1:
        return Workers(runtime, count, server, states)
    return InProcess(runtime, folder=states)


def _finish(loop: RoundLoop) -> Run:
    folder = loop.folder
    loop.run()
    with folder.adapters() as work:
        loop.transport.save_adapters(work)
    summary = summary_of(loop.settings, folder.lines())
    folder.write_summary(summary)
    loop.callback.run_finished(summary)
    return Run(folder.path, summary)


def _check_views(runtime: Runtime) -> None:
    """Raise ConfigError for a view of ``evaluation.views`` that no algorithm has."""
    known = {view for name in algorithm_names() for view in algorithm_class(name).all_views()}
    known |= set(runtime.algorithm.all_views())
    for view in runtime.scenario.evaluation.views:
        if view not in known:
            raise ConfigError(f"evaluation.views: unknown view {view!r}.{nearest(view, known)}")
