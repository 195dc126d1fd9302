"""Compare algorithms and write reports from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedmosaic.api.scenarios import stem, with_overrides
from fedmosaic.config import Scenario
from fedmosaic.experiments.compare import Comparison, run_comparison
from fedmosaic.experiments.plan import Plan
from fedmosaic.experiments.sweep import SEEDS, By, Sweep
from fedmosaic.experiments.variants import Variant, distinct
from fedmosaic.files import write_atomic
from fedmosaic.reporting.comparison import markdown


def compare(
    scenario: str | Path | Scenario,
    *,
    algorithms: Sequence[str | Variant],
    seeds: Sequence[int] = (0, 1, 2),
    overrides: Sequence[str] = (),
    sweep: Mapping[str, Sequence[str]] | None = None,
    sweep_by: By = "mean",
    sweep_seeds: Sequence[int] = SEEDS,
    out: str | Path | None = None,
    jobs: int = 0,
    progress: bool = True,
) -> Comparison:
    """Run algorithms with several seeds and compare them; the same call continues if interrupted.

    Args:
        scenario: as for :func:`run`.
        algorithms: names, ``"fedprox:mu=0.1"``, ``"label=fedmosaic:relevance.kind=permuted"``, or
            :class:`~fedmosaic.experiments.variants.Variant`.
        seeds: seeds of the runs, the same for every algorithm, so that differences are paired.
        overrides: settings of all runs, ``["train.lr=1e-3"]``.
        sweep: values that every algorithm chooses from on a validation split,
            ``{"train.lr": ["1e-3", "2e-3"]}``; None for no choice.
        sweep_by: the score that decides, see :class:`~fedmosaic.experiments.sweep.Sweep`.
        sweep_seeds: seeds of the runs of the sweep.
        out: the folder; by default ``runs/<scenario>-comparison``.
        jobs: runs at a time, as far as memory allows; 0 chooses.
        progress: whether to show progress in the terminal.

    Returns:
        folder, figures (see :func:`~fedmosaic.experiments.summaries.compare_summaries`) and the
        runs that failed.

    Raises:
        FedMosaicError: anything wrong with the call or the folder, before anything runs.
    """
    name, common = with_overrides(scenario, overrides)
    variants = distinct([v if isinstance(v, Variant) else Variant.parse(v) for v in algorithms])
    choice = Sweep(dict(sweep), sweep_by, tuple(sweep_seeds)) if sweep else None
    plan = Plan(name, common, variants, list(seeds), list(overrides), choice)
    folder = Path(out) if out is not None else Path("runs") / f"{stem(name)}-comparison"
    listener = None
    if progress:
        from fedmosaic.reporting.comparison_progress import GridProgress

        listener = GridProgress()
    comparison = run_comparison(plan, folder, jobs=jobs, listener=listener)
    write_atomic(folder / "comparison.md", markdown(comparison.result) + "\n")
    return comparison


def report(
    folders: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    export: str | Path | None = None,
) -> Path:
    """Write one page that shows the results of runs and comparisons.

    The page opens from disk without a network. Runs of the same scenario are compared; several
    scenarios become sections. A run that has not finished or is damaged is left out, and the page
    says so. The same folders give the same bytes.

    Args:
        folders: run folders and comparison folders, in any mix.
        out: the file; by default ``report.html`` in the folder if there is one, else in the
            current folder.
        export: a folder for the figures (PNG, SVG) and tables (CSV, Markdown, LaTeX); None writes
            none.

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
