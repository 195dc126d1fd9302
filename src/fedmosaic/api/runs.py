"""Run scenarios and read run folders from Python.

PyTorch is imported inside the functions that need it: a run writes its settings before, and the
figures of a finished run are shown without.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmosaic.api.scenarios import stem, with_overrides
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import parse
from fedmosaic.errors import CheckpointError
from fedmosaic.experiments.stored import read_comparison
from fedmosaic.federation.beginning import begun
from fedmosaic.federation.processes import ForkServer, fork_server
from fedmosaic.federation.resources import expects_workers
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.late_import import quick_imports

if TYPE_CHECKING:
    from fedmosaic.federation.callbacks import Callback
    from fedmosaic.federation.run import Connect, Run
    from fedmosaic.federation.runtime import Runtime
    from fedmosaic.federation.transport import Transport


def run(
    scenario: str | Path | Scenario,
    *,
    algorithm: str = "fedmosaic",
    seed: int = 0,
    rounds: int | None = None,
    overrides: Sequence[str] = (),
    out: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Run:
    """Run a scenario from beginning to end.

    Args:
        scenario: name (``miniature/hetero``), path of a YAML file, or
            :class:`~fedmosaic.config.Scenario`.
        algorithm: name, see ``fedmosaic list algorithms``.
        seed: seed of every random draw of the run.
        rounds: number of rounds; by default the scenario's.
        overrides: changes of single settings, ``["train.lr=1e-3"]``.
        out: the run folder; by default a new one under ``runs/``.
        progress: whether to show progress in the terminal.
        callbacks: further objects that are notified of the run's events.
        **options: further fields of :class:`~fedmosaic.config.RunSettings`: ``threads``,
            ``workers``, ``engine``, ``trackers``.

    Returns:
        the run's folder and summary.

    Raises:
        FedMosaicError: anything wrong with scenario, data, models or options, before training
            starts.
    """
    changes = [*overrides, *([f"rounds={rounds}"] if rounds is not None else [])]
    name, chosen = with_overrides(scenario, changes)
    content = {"name": name, "algorithm": algorithm, "seed": seed, "scenario": chosen, **options}
    settings = parse(RunSettings, content, "run")
    connect = _engine(settings)
    path = Path(out) if out is not None else default_folder(settings)
    with begun(settings, path) as (folder, recorded), _server(recorded) as server:
        with quick_imports():
            from fedmosaic.experiments.equal_compute import resolve_budget
            from fedmosaic.federation.run import start

            callback = _callback(recorded, path, progress, callbacks)
            gc.freeze()  # what was imported stays: no search for garbage need visit it
        return start(folder, recorded, callback, resolve_budget, server, connect)


def resume(
    folder: str | Path,
    *,
    accept_data_change: bool = False,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Run:
    """Continue an interrupted run; return a finished one as it is.

    Args:
        folder: the run folder.
        accept_data_change: whether to continue even if the data has other content than at the
            start; the change is recorded.
        progress: whether to show progress in the terminal.
        callbacks: further objects that are notified of the run's events.

    Returns:
        the run's folder and summary.

    Raises:
        CheckpointError: no run folder, or one that cannot be continued.
        DataError: the data changed and that is not accepted, or the public data changed.
    """
    path = Path(folder)
    opened, settings = RunFolder.open(path)
    connect = _engine(settings) if opened.summary() is None else None
    with _server(settings) as server:
        with quick_imports():
            from fedmosaic.experiments.equal_compute import resolve_budget
            from fedmosaic.federation.run import resume as resume_run

            callback = _callback(settings, path, progress, callbacks)
            gc.freeze()
        return resume_run(
            path,
            callback,
            accept_data_change=accept_data_change,
            resolve_budget=resolve_budget,
            server=server,
            connect=connect,
        )


def show(folder: str | Path) -> Mapping[str, Any]:
    """Return the figures of a run or a comparison.

    Args:
        folder: a run folder or a comparison folder.

    Returns:
        the summary of the run, of what is measured so far if it has not finished; or the figures
        of the comparison.

    Raises:
        CheckpointError: no run folder, or nothing has been measured yet.
    """
    if (figures := read_comparison(Path(folder))) is not None:
        return figures
    opened, settings = RunFolder.open(Path(folder))
    summary = opened.summary()
    lines = [] if summary else opened.lines()
    if any(line["kind"] == "score" for line in lines):
        from fedmosaic.federation.run_summary import summary_of

        summary = summary_of(settings, lines)
    if summary is None:
        opened.require_current()
        done = sum(line["kind"] == "round" for line in lines)
        raise CheckpointError(
            f"{folder} has finished {done} of {settings.scenario.rounds} rounds; continue it with: "
            f"{settings.continue_command(Path(folder))}"
        )
    return summary


def default_folder(settings: RunSettings) -> Path:
    """Return a folder under ``runs/`` that does not exist yet.

    It is ``runs/<scenario>-<algorithm>-seed<seed>``, then ``…-2`` and so on.
    """
    base = Path("runs") / f"{stem(settings.name)}-{settings.algorithm}-seed{settings.seed}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _server(settings: RunSettings) -> AbstractContextManager[ForkServer | None]:
    """Return the process that imports everything for the workers, while this one does the same."""
    needed = settings.engine == "local" and expects_workers(settings)
    return fork_server("fedmosaic.federation.worker_process", needed)


def _engine(settings: RunSettings) -> Connect | None:
    """Return what reaches the clients of a run; None for the engine ``local``.

    Raises:
        ConfigError: the engine is not installed.
    """
    if settings.engine == "local":
        return None
    from fedmosaic.engines.flower.environment import require_flower

    require_flower()

    def connect(runtime: Runtime, states: Path) -> Transport:
        from fedmosaic.engines.flower.simulated_clients import simulate

        return simulate(runtime, states)

    return connect


def _callback(
    settings: RunSettings, folder: Path, progress: bool, more: Sequence[Callback]
) -> Callback:
    """Return the progress display, the trackers and further callbacks as one callback."""
    from fedmosaic.federation.callbacks import Callbacks

    found: list[Callback] = []
    if progress:
        from fedmosaic.reporting.progress import ConsoleProgress

        found.append(ConsoleProgress())
    if settings.trackers:
        from fedmosaic.reporting.trackers import make_tracker

        found += [make_tracker(name, folder) for name in settings.trackers]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return Callbacks([*found, *more])
