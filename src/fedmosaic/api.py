"""The library in a few functions: what the command does, from Python."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import apply_override, load_scenario, override, parse
from fedmosaic.errors import CheckpointError, ConfigError, nearest
from fedmosaic.experiments.compare import RESULT, Comparison, Plan, run_comparison
from fedmosaic.experiments.sweep import SEEDS, By, Sweep
from fedmosaic.experiments.variants import Variant, distinct
from fedmosaic.federation.callbacks import Callback, Callbacks
from fedmosaic.federation.run import Run, new_run, summary_of
from fedmosaic.federation.run import resume as resume_run
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.files import write_atomic
from fedmosaic.reporting.comparison import markdown

if TYPE_CHECKING:
    from fedmosaic.alignment.store import Alignment
    from fedmosaic.experiments.adaptation import Told


def run(
    scenario: str | Path | Scenario,
    *,
    algorithm: str = "fedmosaic",
    seed: int = 0,
    rounds: int | None = None,
    set: Sequence[str] = (),
    out: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> Run:
    """Run a scenario from beginning to end.

    Args:
        scenario: a name (``miniature/hetero``), a path to a YAML file, or a :class:`~fedmosaic.config.Scenario`.
        algorithm: see ``fedmosaic list algorithms``.
        seed: of everything random in the run.
        rounds: overrides the scenario's number of rounds.
        set: changes of single values, ``["train.lr=1e-3"]``.
        out: the run folder; by default a new one under ``runs/``.
        progress: show progress in the terminal.
        callbacks: further listeners.
        options: further fields of :class:`~fedmosaic.config.RunSettings`: ``threads``, ``workers``, ``trackers``.

    Returns:
        the run's folder and summary.

    Raises:
        FedMosaicError: anything wrong with scenario, data, models or options, before training starts.
    """
    overrides = [*set, *([f"rounds={rounds}"] if rounds is not None else [])]
    if isinstance(scenario, Scenario):
        if overrides:
            raise ConfigError(
                "set and rounds apply to scenario names and files; change the Scenario itself instead"
            )
        name = scenario.title or "scenario"
        chosen = scenario
    else:
        name = str(scenario)
        chosen = load_scenario(scenario, overrides)
    content = {"name": name, "algorithm": algorithm, "seed": seed, "scenario": chosen, **options}
    settings = parse(RunSettings, content, "run")
    folder = Path(out) if out is not None else default_folder(settings)
    return new_run(settings, folder, _callback(settings, folder, progress, callbacks))


def resume(folder: str | Path, *, progress: bool = True, callbacks: Sequence[Callback] = ()) -> Run:
    """Continue a run that was interrupted; a finished one is returned as it is. Raises CheckpointError."""
    path = Path(folder)
    _, settings = RunFolder.open(path)
    return resume_run(path, _callback(settings, path, progress, callbacks))


def compare(
    scenario: str | Path | Scenario,
    *,
    algorithms: Sequence[str | Variant],
    seeds: Sequence[int] = (0, 1, 2),
    set: Sequence[str] = (),
    sweep: Mapping[str, Sequence[str]] | None = None,
    sweep_by: By = "mean",
    sweep_seeds: Sequence[int] = SEEDS,
    out: str | Path | None = None,
    jobs: int = 0,
    progress: bool = True,
) -> Comparison:
    """Run several algorithms with several seeds and compare them; the same call again goes on where it was stopped.

    Args:
        scenario: as for :func:`run`.
        algorithms: names, ``"fedmosaic:pull=0.2"``, ``"label=fedmosaic:relevance.kind=permuted"``, or
            :class:`~fedmosaic.experiments.variants.Variant`.
        seeds: of the runs, the same for every algorithm, so that differences are paired.
        set: settings of all runs, ``["train.lr=1e-3"]``.
        sweep: values to choose from for every algorithm, ``{"train.lr": ["1e-3", "2e-3"]}``, on a validation split.
        sweep_by, sweep_seeds: see :class:`~fedmosaic.experiments.sweep.Sweep`.
        out: the folder; by default ``runs/<scenario>-comparison``.
        jobs: runs at a time; 0: chosen. Never more than memory allows.
        progress: show progress in the terminal.

    Returns:
        folder, figures (see :func:`~fedmosaic.experiments.summaries.compare_summaries`) and the runs that failed.

    Raises:
        FedMosaicError: anything wrong with the call or the folder, before anything runs.
    """
    name = str(scenario) if not isinstance(scenario, Scenario) else scenario.title or "scenario"
    common = (
        override(scenario, set, name)
        if isinstance(scenario, Scenario)
        else load_scenario(scenario, set)
    )
    variants = distinct([v if isinstance(v, Variant) else Variant.parse(v) for v in algorithms])
    choice = Sweep(dict(sweep), sweep_by, tuple(sweep_seeds)) if sweep else None
    plan = Plan(name, common, variants, list(seeds), list(set), choice)
    folder = Path(out) if out is not None else Path("runs") / f"{_stem(name)}-comparison"
    listener = None
    if progress:
        from fedmosaic.reporting.comparison_progress import GridProgress

        listener = GridProgress()
    comparison = run_comparison(plan, folder, jobs=jobs, listener=listener)
    write_atomic(folder / "comparison.md", markdown(comparison.result) + "\n")
    return comparison


def show(folder: str | Path) -> Mapping[str, Any]:
    """The summary of a run, of what is measured so far if it has not finished; or the figures of a comparison.

    Raises:
        CheckpointError: no run folder, or nothing has been measured yet.
    """
    if (result := Path(folder) / RESULT).is_file():
        figures: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return figures
    opened, settings = RunFolder.open(Path(folder))
    summary = opened.summary()
    lines = [] if summary else opened.lines()
    if any(line["kind"] == "score" for line in lines):
        summary = summary_of(settings, lines)
    if summary is None:
        done = sum(line["kind"] == "round" for line in lines)
        raise CheckpointError(
            f"{folder} has finished {done} of {settings.scenario.rounds} rounds; continue it with: fedmosaic run --resume {folder}"
        )
    return summary


def report(
    folders: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    export: str | Path | None = None,
) -> Path:
    """One page that shows what runs and comparisons found; it opens from disk without a network.

    Runs of the same scenario are compared; several scenarios become sections of the page. A run that has not finished or is damaged
    is left out, and the page says so. The same folders give the same bytes.

    Args:
        folders: run folders and comparison folders, any mix.
        out: the file; by default ``report.html`` in the folder if there is one, else in the current one.
        export: a folder for the figures (PNG, SVG) and tables (CSV, Markdown, LaTeX); None writes none.

    Returns:
        the file.

    Raises:
        CheckpointError: a folder that holds neither, or nothing that can be shown.
    """
    from fedmosaic.reporting.html.collect import collect
    from fedmosaic.reporting.html.export import export as export_files
    from fedmosaic.reporting.html.page import page
    from fedmosaic.reporting.html.sections import sections

    paths = (
        [Path(folders)] if isinstance(folders, str | Path) else [Path(folder) for folder in folders]
    )
    collected = collect(paths)
    found = sections(collected)
    path = (
        Path(out) if out is not None else (paths[0] if len(paths) == 1 else Path()) / "report.html"
    )
    write_atomic(path, page(found, collected.notes).encode("utf-8", "replace"))
    if export is not None:
        export_files(found, Path(export))
    return path


def export(folder: str | Path, client: str, out: str | Path) -> Path:
    """Write a client's adapter as an ordinary PEFT LoRA adapter, which loads without this library.

    Args:
        folder: a run folder. client: the client's name. out: the folder to make.

    Raises:
        ConfigError: unknown client, or ``out`` exists. CheckpointError: the run has no adapters yet.
        ModelError: an adapter that no LoRA equals (``gate=input``).
    """
    from fedmosaic.federation.export import export_client

    opened, settings = RunFolder.open(Path(folder))
    specs = {spec.name: spec for spec in settings.scenario.clients}
    if client not in specs:
        raise ConfigError(f"{folder} has no client {client!r}.{nearest(client, specs)}")
    return export_client(opened, settings, specs[client], Path(out))


def adapt(
    folder: str | Path,
    *,
    tasks: Sequence[str] = (),
    clients: Sequence[str] = (),
    every: int = 10,
    points: int = 5,
    items: int | None = None,
    fresh: bool = False,
    received: bool = False,
    told: Told | None = None,
) -> dict[str, Any]:
    """How soon a finished run's clients learn tasks that none of them trained on (see :func:`fedmosaic.experiments.adaptation.adapt`).

    The result stands in ``adaptation.json`` in the run folder and in reports; the same call again goes on where it was stopped.

    Args:
        folder: a run folder. tasks: by default the scenario's unseen ones. clients: by default all.
        every: local steps between two measurements. points: measurements after the first. items: test examples a task; None: all.
        fresh: measure untrained adapters beside it. received: and what the server would send next, in place of the client's own.
        told: called with client, task, kind and accuracies when they are there.

    Returns:
        ``{"settings", "adapted": {client: {task: accuracies}}, "fresh": …, "received": …}``.

    Raises:
        ConfigError: no tasks, or an unknown client. CheckpointError: no finished run. FedMosaicError: what training can meet.
    """
    from fedmosaic.experiments.adaptation import adapt as adapt_run
    from fedmosaic.experiments.adaptation import planned

    opened, settings = RunFolder.open(Path(folder))
    plan = planned(settings, tasks, clients, every=every, points=points, items=items)
    return adapt_run(opened, settings, plan, fresh=fresh, received=received, told=told)


def align(
    models: Sequence[str],
    *,
    pivot: str,
    public: str = "miniature/public",
    size: int = 256,
    seed: int = 0,
    out: str | Path | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    join: str | Path | None = None,
    set: Sequence[str] = (),
    progress: bool = True,
    **settings: Any,
) -> list[Alignment]:
    """Make A and B of some models mean what they mean in the pivot.

    Args:
        models: names, as in a scenario. pivot: the model that the others are aligned to.
        public: public data, see :func:`fedmosaic.data.public_examples`; ``synthetic`` is drawn pictures, or text where one of
            the models takes no pictures.
        size: number of its examples. seed: of everything random.
        out: a folder for one file of each model and its heat map; None writes nothing.
        root: the folder that ``public`` refers to. device, dtype: see :class:`~fedmosaic.models.loading.ModelOptions`.
        join: a folder of refined alignments to the same pivot, which stand as they are: other models are refined to the pivot's.
        set: changes of single settings, ``["r=64", "num_blocks=8"]``.
        progress: show progress in the terminal.
        settings: fields of :class:`~fedmosaic.alignment.standalone.StandaloneSettings`, which are those
            of :class:`~fedmosaic.alignment.AlignmentSettings` and
            :class:`~fedmosaic.adapters.placement.Placement`. ``refine=True`` stands for functional
            refinement with its placement (:data:`fedmosaic.alignment.REFINED`).

    Returns:
        one alignment for each model, in order.

    Raises:
        FedMosaicError: anything wrong with models, data or settings.
    """
    from fedmosaic import alignment
    from fedmosaic.alignment.standalone import StandaloneSettings
    from fedmosaic.alignment.store import save_alignment
    from fedmosaic.data import public_examples
    from fedmosaic.models.backbone import Backbone
    from fedmosaic.models.loading import ModelOptions
    from fedmosaic.reporting.heat_map import write_heat_map
    from fedmosaic.reporting.progress import AlignProgress

    content = {"seed": seed, **settings}
    if content.get("refine") is True or join is not None:
        content = {
            **alignment.REFINED,
            **content,
            "refine": {} if join is None else {"join": str(join)},
        }
    for change in set:
        apply_override(content, change)
    chosen = parse(StandaloneSettings, content, "align")
    loaded = {
        name: Backbone.load(name, ModelOptions(dtype, device))
        for name in dict.fromkeys([*models, pivot])
    }
    if public == "synthetic" and any(backbone.tower is None for backbone in loaded.values()):
        public = "synthetic/text"
    examples = public_examples(public, size, seed, root=Path(root) if root is not None else None)
    with AlignProgress(progress) as shown:
        clients = [loaded[name] for name in models]
        found: list[Alignment] = alignment.align(
            clients, loaded[pivot], examples, chosen.alignment, chosen.placement, shown
        )
    if out is not None:
        for aligned in found:
            path = save_alignment(aligned, Path(out))
            if "cka" in aligned.report:
                write_heat_map(aligned, path.with_suffix(".png"))
    return found


def default_folder(settings: RunSettings) -> Path:
    """A folder under ``runs/`` that does not exist yet: ``runs/<scenario>-<algorithm>-seed<seed>``, then ``…-2`` and so on."""
    base = Path("runs") / f"{_stem(settings.name)}-{settings.algorithm}-seed{settings.seed}"
    path, number = base, 1
    while path.exists():
        number += 1
        path = base.with_name(f"{base.name}-{number}")
    return path


def _stem(name: str) -> str:
    """A scenario's name as part of a folder's."""
    return Path(name).with_suffix("").as_posix().strip("/.").replace("/", "-").replace(" ", "-")


def _callback(
    settings: RunSettings, folder: Path, progress: bool, more: Sequence[Callback]
) -> Callback:
    found: list[Callback] = []
    if progress:
        from fedmosaic.reporting.progress import ConsoleProgress

        found.append(ConsoleProgress())
    if settings.trackers:
        from fedmosaic.reporting.trackers import make_tracker

        found += [make_tracker(name, folder) for name in settings.trackers]
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    return Callbacks([*found, *more])
