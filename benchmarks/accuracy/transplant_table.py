"""Write the tables of the transplant test: results/transplant.json and transplant.md.

  python -m benchmarks.accuracy.transplant_table

Reads results/transplant/*.json. A value is a mean over directions and tasks. A seed is one job;
intervals are Student's over the five jobs, of paired differences. *Fraction* is the share of the
receiver's own gain that transferred P, Q bring: (transferred − zero) / (own − zero), of the means
of a job.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.accuracy.transplant import FAR, JOBS, NEAR, VARIANTS
from benchmarks.accuracy.transplant_model import RELABELLED
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import read_result, write_result
from benchmarks.common.tables import table_head, table_row
from fedmosaic.experiments.statistics import Interval, interval

KINDS = {"near": range(len(NEAR)), "far": range(len(NEAR), len(NEAR) + len(FAR))}
SCORES = ("zero", RELABELLED, "transferred", "own", "best", "cold", "warm")
# Differences of two scores, by name.
GAPS = {
    "specific": ("transferred", RELABELLED),
    "head start": ("warm", "cold"),
    "gain": ("transferred", "zero"),
}
# The shown columns: heading and name.
COLUMNS = {
    "zero-shot": "zero",
    RELABELLED: RELABELLED,
    "**transferred**": "transferred",
    "own": "own",
    "best": "best",
    "fraction": "fraction",
    f"transferred − {RELABELLED}": "specific",
    "cold": "cold",
    "warm": "warm",
    "warm − cold": "head start",
}
Job = Mapping[str, Any]


def score(job: Job, variant: str, which: str, kind: str, direction: str | None = None) -> float:
    """Return the mean accuracy of a job over the tasks of a kind.

    Args:
        job: the content of a job's file.
        variant: the way in which A and B were chosen.
        which: one of ``SCORES``.
        kind: ``near`` or ``far``.
        direction: ``giver -> receiver``; default: mean over all directions, or over all models.
    """
    lines = job["zero"] if which == "zero" else job["variants"][variant][which]
    if direction is not None:
        receiver = direction.split(" -> ")[1]
        lines = {name: row for name, row in lines.items() if name in (direction, receiver)}
    values: list[float] = [row[task] for row in lines.values() for task in KINDS[kind]]
    return mean(values)


def fraction(job: Job, variant: str, kind: str, direction: str | None = None) -> float:
    """Return the share of the receiver's own gain that transferred P, Q bring."""
    zero, transferred, own = (
        score(job, variant, which, kind, direction) for which in ("zero", "transferred", "own")
    )
    return (transferred - zero) / (own - zero)


def format_value(found: Interval, percent: bool = True) -> str:
    """Return a mean and its half-width: in percent with one digit, or as it is with two."""
    scale, digits = (100, 1) if percent else (1, 2)
    half = "" if found.half is None else f" ± {scale * found.half:.{digits}f}"
    return f"{scale * found.mean:.{digits}f}{half}"


def scores_of(jobs: Sequence[Job], variant: str, kind: str) -> dict[str, Interval]:
    """Return the intervals of all scores, of the fraction and of the differences."""
    values = {which: [score(job, variant, which, kind) for job in jobs] for which in SCORES}
    found = {which: interval(each) for which, each in values.items()}
    found["fraction"] = interval([fraction(job, variant, kind) for job in jobs])
    for name, (one, other) in GAPS.items():
        gaps = [a - b for a, b in zip(values[one], values[other], strict=True)]
        found[name] = interval(gaps)
    return found


def step_of(jobs: Sequence[Job], lower: str, upper: str, kind: str) -> Interval:
    """Return the gain of transferred P, Q from one variant to the next."""
    return interval(
        [
            score(job, upper, "transferred", kind) - score(job, lower, "transferred", kind)
            for job in jobs
        ]
    )


def result_of(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the content of the result file."""
    found: dict[str, Any] = {
        variant: {
            kind: {name: vars(value) for name, value in scores_of(jobs, variant, kind).items()}
            for kind in KINDS
        }
        for variant in VARIANTS
    }
    found["steps"] = {
        f"{upper} - {lower}": {kind: vars(step_of(jobs, lower, upper, kind)) for kind in KINDS}
        for lower, upper in itertools.pairwise(VARIANTS)
    }
    found["cosine"] = {
        variant: mean(
            value
            for job in jobs
            for row in job["variants"][variant]["cosine"].values()
            for value in row
        )
        for variant in VARIANTS
    }
    return found


def page(jobs: Sequence[Job], chosen: Mapping[str, Any]) -> str:
    """Return the whole result in Markdown."""
    found = result_of(jobs)
    pretrainings = len({job["pretraining"] for job in jobs})
    lines = [
        "# P, Q of one architecture in another",
        "",
        "Made by `python -m benchmarks.accuracy.transplant`, whose docstring explains the scores, "
        "and `python -m benchmarks.accuracy.transplant_table`. Accuracy in percent: mean ± "
        f"half-width of the 95 % interval over {len(jobs)} seeds on {pretrainings} pretrainings; "
        f"three models, six directions, {len(NEAR)} near and {len(FAR)} far tasks.",
    ]
    for kind, tasks in (("near", NEAR), ("far", FAR)):
        lines += ["", f"## {kind.capitalize()} tasks ({', '.join(tasks)})", ""]
        lines += table_head("A, B", list(COLUMNS))
        for variant in VARIANTS:
            row = {name: Interval(**value) for name, value in found[variant][kind].items()}
            cells = [format_value(row[name], name != "fraction") for name in COLUMNS.values()]
            lines.append(table_row([variant, *cells]))
    lines += ["", "## Gain of each variant over the one before", "", *_steps(found["steps"])]
    lines += ["", "## Refined, by direction", "", *_by_direction(jobs)]
    lines += ["", "## Choices, made on two other tasks", ""]
    lines += table_head("A, B", ["rate", "second moment", "scale of transferred P, Q"])
    for variant in VARIANTS:
        choice = chosen[variant]["transferred"]
        cells = [str(choice["rate"]), f"for each {choice['moment']}", f"{choice['scale']:g}"]
        lines.append(table_row([variant, *cells]))
    cosines = ", ".join(f"{variant} {found['cosine'][variant]:.2f}" for variant in VARIANTS)
    lines += ["", f"Cosine of two models' P for the same task: {cosines}."]
    return "\n".join(lines) + "\n"


def _steps(steps: Mapping[str, Any]) -> list[str]:
    lines = table_head("variants", list(KINDS))
    for name, found in steps.items():
        cells = [format_value(Interval(**found[kind])) for kind in KINDS]
        lines.append(table_row([name.replace(" - ", " − "), *cells]))
    return lines


def _by_direction(jobs: Sequence[Job]) -> list[str]:
    columns = [f"{kind}: {what}" for kind in KINDS for what in ("transferred", "own", "fraction")]
    lines = table_head("direction", columns)
    for direction in jobs[0]["variants"]["refined"]["transferred"]:
        cells = []
        for kind in KINDS:
            for which in ("transferred", "own"):
                values = [score(job, "refined", which, kind, direction) for job in jobs]
                cells.append(format_value(interval(values)))
            shares = [fraction(job, "refined", kind, direction) for job in jobs]
            cells.append(format_value(interval(shares), percent=False))
        lines.append(table_row([direction, *cells]))
    return lines


def short_table(found: Mapping[str, Any]) -> str:
    """Return transferred and own accuracies, for the page of results."""
    columns = [f"{kind}: {which}" for kind in KINDS for which in ("transferred", "own")]
    lines = table_head("A, B", columns)
    for variant in VARIANTS:
        cells = [
            format_value(Interval(**found[variant][kind][which]))
            for kind in KINDS
            for which in ("transferred", "own")
        ]
        lines.append(table_row([variant, *cells]))
    return "\n".join(lines)


def main() -> None:
    """Read the jobs and write the result."""
    benchmark_parser(__doc__).parse_args()
    jobs = [read_result(f"transplant/{number}") for number in range(len(JOBS))]
    found, text = result_of(jobs), page(jobs, read_result("transplant/chosen"))
    write_result("transplant", found, text)
    write_between_marks("transplant", short_table(found))
    print(text)


if __name__ == "__main__":
    main()
