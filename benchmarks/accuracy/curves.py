"""Draw accuracy over rounds of every algorithm next to local training.

  python -m benchmarks.accuracy.curves            an hour on 2 cores; continues if stopped
  python -m benchmarks.accuracy.curves --table    writes the results from the finished comparison
  python -m benchmarks.accuracy.curves --add fedavg --runs runs/added
  python -m benchmarks.accuracy.curves --only fedavg ditto --seeds 0 --runs runs/again

With ``--add`` some algorithms are run and put into the published curves, in place of earlier ones.
With ``--only`` they are compared with the published curves; the exit status is 1 if any value
differs.

Scenario: miniature/quickstart (four clients, three architectures, five rounds), evaluated after
every round. Every algorithm gets the local steps that cost what local training costs, counted
(``budget=flops``); the oracle ``pooled`` has no budget. Learning rates are those of the scenario;
none is chosen. Three seeds.

This is a small scenario. It shows how an algorithm behaves over rounds, not which one is best; the
evidence compares algorithms (benchmarks.accuracy.evidence). Writes results/curves.json, curves.md
and docs/algorithms/curves/<algorithm>.svg.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fedmosaic
from benchmarks.accuracy.evidence_rows import BASELINES, FEDMOSAIC, FURTHER, LOCAL
from benchmarks.common.arguments import add_run_arguments, benchmark_parser
from benchmarks.common.line_chart import Line, line_chart, panel_limits
from benchmarks.common.paths import ROOT, read_result, write_result
from benchmarks.common.tables import format_interval, table_head, table_row
from fedmosaic.algorithms import algorithm_class
from fedmosaic.experiments.statistics import Interval, interval
from fedmosaic.experiments.variants import slug
from fedmosaic.federation.beginning import versions
from fedmosaic.reporting.html.run_data import read_run

SCENARIO, SEEDS, SETTINGS = "miniature/quickstart", (0, 1, 2), ["budget=flops"]
ALGORITHMS = (*BASELINES, *FURTHER, FEDMOSAIC.label, "fedmosaic-no-communication", "pooled")
PANELS = {"Self": "Self: accuracy on own tasks, %", "Others": "Others: on the others' tasks, %"}
PICTURES = ROOT / "docs" / "algorithms" / "curves"
Values = Mapping[str, Sequence[float]]  # accuracy in percent after each round, by seed


def curves_of(
    folder: Path, algorithms: Sequence[str], seeds: Sequence[int]
) -> dict[str, dict[str, Any]]:
    """Return the curves of finished runs.

    Args:
        folder: folder of the comparison.
        algorithms: the algorithms to read.
        seeds: the seeds to read.

    Returns:
        By algorithm its local ``steps`` a round, and ``Self`` and ``Others`` by seed.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in algorithms:
        runs = {seed: read_run(folder / slug(name) / f"seed-{seed}") for seed in seeds}
        found[name] = {"steps": runs[seeds[0]].summary["steps"]}
        for column in PANELS:
            found[name][column] = {
                str(seed): [round(value, 3) for _, value in sorted(run.curves[column].items())]
                for seed, run in runs.items()
            }
    return found


def mean_curve(values: Values) -> list[Interval]:
    """Return the mean over seeds after each round, with its 95 % t-interval."""
    return [interval(list(each)) for each in zip(*values.values(), strict=True)]


def pictures(algorithms: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the picture of each algorithm as the text of an SVG file.

    All pictures have the same axes and can be compared. Only the oracle without a budget, which
    is far above all others, has axes of its own.
    """
    means = {
        name: {column: mean_curve(found[column]) for column in PANELS}
        for name, found in algorithms.items()
    }
    budgeted = [name for name in means if algorithm_class(name).budgeted]
    named = {
        name: {title: each[column] for column, title in PANELS.items()}
        for name, each in means.items()
    }
    local = Line(f"{LOCAL} (local training)", "reference", named[LOCAL])
    drawn = {}
    for name, curves in named.items():
        lines = [local] if name == LOCAL else [local, Line(name, "main", curves)]
        about = f"Accuracy of {name} over rounds on {SCENARIO}, next to local training"
        shown = budgeted if name in budgeted else list(means)
        limits = {
            title: panel_limits([means[each][column] for each in shown])
            for column, title in PANELS.items()
        }
        drawn[name] = line_chart(about, lines, limits, "round")
    return drawn


def page(content: Mapping[str, Any]) -> str:
    """Return the accuracies after the first and the last round in Markdown."""
    algorithms = content["algorithms"]
    rounds = len(next(iter(algorithms[LOCAL]["Self"].values())))
    columns = [f"{column}, round {n}" for column in PANELS for n in (1, rounds)]
    lines = [
        "# Accuracy over rounds",
        "",
        f"Made by `{content['command']}`, whose docstring says what is run; all rounds are in "
        f"`curves.json`, pictures in `docs/algorithms/curves`. Accuracy in percent on "
        f"{content['scenario']} at equal compute: mean ± half-width of the 95 % t-interval over "
        f"seeds {', '.join(map(str, content['seeds']))}. Learning rates are those of the scenario; "
        "none is chosen. The scenario is small; `evidence.md` compares algorithms.",
        "",
        *table_head("algorithm", [*columns, "steps"]),
    ]
    for name, found in algorithms.items():
        means = [mean_curve(found[column]) for column in PANELS]
        cells = [format_interval(curve[n]) for curve in means for n in (0, -1)]
        lines.append(table_row([name, *cells, str(found["steps"])]))
    return "\n".join([*lines, ""])


def compare_with_published(found: Mapping[str, Mapping[str, Any]]) -> tuple[str, bool]:
    """Return the values of both as a table, and whether all are equal.

    Args:
        found: what :func:`curves_of` returns.
    """
    published = read_result("curves")["algorithms"]
    lines = table_head("run", ["column", "published", "reproduced"])
    equal = True
    for name, columns in found.items():
        for column in PANELS:
            for seed, values in columns[column].items():
                before = published[name][column][seed]
                equal = equal and before == values
                cells = [" ".join(map(str, each)) for each in (before, values)]
                lines.append(table_row([f"{name}, seed {seed}", column, *cells]))
    return "\n".join(lines), equal


def with_published(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the published curves with some added or replaced, in the order of ``ALGORITHMS``."""
    content = read_result("curves")
    known = {**content["algorithms"], **found}
    return {**content, "algorithms": {name: known[name] for name in ALGORITHMS if name in known}}


def write(content: Mapping[str, Any]) -> None:
    """Write the result and all pictures."""
    write_result("curves", content, page(content))
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, text in pictures(content["algorithms"]).items():
        (PICTURES / f"{name}.svg").write_text(text)


def _arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = benchmark_parser(__doc__)
    add_run_arguments(parser, "runs/curves", jobs=2)
    some = parser.add_mutually_exclusive_group()
    for option, purpose in (
        ("--only", "compare them with the published curves; write no result"),
        ("--add", "put them into the published curves"),
    ):
        some.add_argument(
            option,
            nargs="+",
            choices=ALGORITHMS,
            metavar="ALGORITHM",
            help=f"run these alone and {purpose}",
        )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        choices=SEEDS,
        default=list(SEEDS),
        help="the seeds of --only (default: all)",
    )
    return parser.parse_args()


def main() -> None:
    """Run the comparison and write the result, or add or compare some runs."""
    arguments = _arguments()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    algorithms = arguments.only or arguments.add or ALGORITHMS
    seeds = arguments.seeds if arguments.only else SEEDS
    if not arguments.table:
        fedmosaic.compare(
            SCENARIO,
            algorithms=algorithms,
            seeds=seeds,
            overrides=SETTINGS,
            out=arguments.runs,
            jobs=arguments.jobs,
        )
    found = curves_of(arguments.runs, algorithms, seeds)
    if arguments.only:
        text, equal = compare_with_published(found)
        print(text)
        sys.exit(0 if equal else "the curves differ from the published ones")
    if arguments.add:
        write(with_published(found))
        return
    content = {
        "command": "python -m benchmarks.accuracy.curves",
        "scenario": SCENARIO,
        "settings": SETTINGS,
        "seeds": list(seeds),
        "versions": versions(),
        "algorithms": found,
    }
    write(content)
    print(page(content))


if __name__ == "__main__":
    main()
