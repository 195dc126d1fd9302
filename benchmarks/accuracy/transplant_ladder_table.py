"""Write the tables of the transplant ladder: results/transplant_ladder.json and .md.

  python -m benchmarks.accuracy.transplant_ladder_table

Reads results/transplant_ladder/*.json. A value is a mean over directions and tasks. A seed is one
job; intervals are Student's over the jobs, of paired differences. *Fraction* is the share of the
receiver's own gain that a moved P brings: (moved − zero) / (own − zero), of the means of a job.
*Own* is the receiver's own training by Adam, read plainly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

from benchmarks.accuracy.transplant import FAR, JOBS, NEAR
from benchmarks.accuracy.transplant_ladder import ROWS
from benchmarks.accuracy.transplant_model import RELABELLED
from benchmarks.accuracy.transplant_moves import LACKING, MARGINS, OF_CLIENT, TEST
from benchmarks.accuracy.transplant_rows import row_name
from benchmarks.accuracy.transplant_table import KINDS, format_value
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import RESULTS, read_result, write_result
from benchmarks.common.tables import table_head, table_row
from fedmosaic.experiments.statistics import Interval, interval

Job = Mapping[str, Any]
Scores = Mapping[str, Sequence[float]]
"""The accuracy of each task, by direction or by model."""


def what_of(weight: float) -> str:
    """Return how many P three tasks have, in words."""
    return "one P" if weight == 1 else f"a P a task (others' examples with weight {weight})"


TODAY, BEST = "adam, plain", "ridge, difference"
NAMES = tuple(row_name(*row) for row in ROWS)
LEADS = {
    LACKING: "ridge for what the zero-shot model lacks, difference",
    MARGINS: "ridge on one margin an example, difference",
    **{
        name: f"ridge, {what_of(weight)}, {number} margins of three tasks, difference"
        for name, (number, weight) in OF_CLIENT.items()
    },
    "gradient": "first gradient step, difference",
    "sum": "ridge, differences of both givers added",
    "mask, ridge": "ridge, sign mask from 16 examples, difference",
    "mask, adam": "adam, sign mask from 16 examples, plain",
    "average": "adam, average of both givers, plain",
    "with own": "adam, average of both givers and the receiver's own, plain",
}
FEW = {
    "adam, cold": "15 steps from zero, plain",
    "adam, warm": "15 steps from adam's moved P, plain",
    "adam, warm from ridge": "15 steps from ridge's moved P, plain",
    "ridge, cold": "ridge from zero, difference",
    "ridge, warm": "ridge from ridge's moved P, difference",
}


def score(rows: Scores, kind: str) -> float:
    """Return the mean accuracy over the tasks of a kind."""
    return mean(row[task] for row in rows.values() for task in KINDS[kind])


def fraction(job: Job, rows: Scores, kind: str) -> float:
    """Return the share of the receiver's own gain that a row brings."""
    zero, moved, own = (score(each, kind) for each in (job["zero"], rows, job["own"]))
    return (moved - zero) / (own - zero)


def intervals_of(jobs: Sequence[Job], part: str, row: str) -> dict[str, Any]:
    """Return accuracy, fraction and control of a row, near and far.

    Args:
        jobs: contents of the jobs' files.
        part: ``rows``, ``leads`` or ``few``.
        row: name of the row in this part.
    """
    found: dict[str, Any] = {}
    for kind in KINDS:
        own = [job[part][row]["own"] if part == "rows" else job[part][row] for job in jobs]
        values = {
            "accuracy": [score(rows, kind) for rows in own],
            "fraction": [fraction(job, rows, kind) for job, rows in zip(jobs, own, strict=True)],
        }
        if part == "rows" and RELABELLED in jobs[0][part][row]:
            control = [score(job[part][row][RELABELLED], kind) for job in jobs]
            zero = [score(job["zero"], kind) for job in jobs]
            values[RELABELLED] = control
            values[f"{RELABELLED} - zero"] = [a - b for a, b in zip(control, zero, strict=True)]
        found[kind] = {name: vars(interval(each)) for name, each in values.items()}
    return found


def gap(jobs: Sequence[Job], upper: str, lower: str, kind: str) -> Interval:
    """Return the difference of two rows' fractions."""
    return interval(
        [
            fraction(job, job["rows"][upper]["own"], kind)
            - fraction(job, job["rows"][lower]["own"], kind)
            for job in jobs
        ]
    )


def result_of(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the content of the result file."""
    parts = {"rows": NAMES, "leads": tuple(LEADS), "few": tuple(FEW)}
    found: dict[str, Any] = {
        part: {row: intervals_of(jobs, part, row) for row in names} for part, names in parts.items()
    }
    for which in ("zero", "own", "own, ridge"):
        found[which] = {
            kind: vars(interval([score(job[which], kind) for job in jobs])) for kind in KINDS
        }
    steps = (
        (TODAY, "adam, difference"),
        ("adam, difference", BEST),
        (TODAY, BEST),
        (BEST, "ridge, forward, difference"),
    )
    found["steps"] = {
        f"{upper} - {lower}": {kind: vars(gap(jobs, upper, lower, kind)) for kind in KINDS}
        for lower, upper in steps
    }
    return found


def _cell(found: Mapping[str, Any], percent: bool = True) -> str:
    return format_value(Interval(**found), percent)


def row_lines(found: Mapping[str, Any], part: str, names: Mapping[str, str]) -> list[str]:
    """Return the table of one part, with a column for the control where there is one."""
    control = part == "rows"
    columns = [
        f"{kind}: {what}"
        for kind in KINDS
        for what in ("accuracy", "fraction", *([RELABELLED] if control else []))
    ]
    lines = table_head("row", columns)
    for row, shown in names.items():
        cells = []
        for kind in KINDS:
            own = found[part][row][kind]
            cells += [_cell(own["accuracy"]), _cell(own["fraction"], percent=False)]
            if control:
                cells.append(_cell(own[RELABELLED]) if RELABELLED in own else "")
        lines.append(table_row([shown, *cells]))
    return lines


def page(jobs: Sequence[Job], chosen: Mapping[str, Any]) -> str:
    """Return the whole result in Markdown."""
    found = result_of(jobs)
    pretrainings = len({job["pretraining"] for job in jobs})
    lines = [
        "# The transplant ladder",
        "",
        "Made by `python -m benchmarks.accuracy.transplant_ladder`, whose docstring explains the "
        "rows, and `python -m benchmarks.accuracy.transplant_ladder_table`. Accuracy in percent: "
        f"mean ± half-width of the 95 % interval over {len(jobs)} seeds on {pretrainings} "
        f"pretrainings; three models, six directions, {len(NEAR)} near and {len(FAR)} far tasks of "
        f"{TEST} test items. Near: {', '.join(NEAR)}. Far: {', '.join(FAR)}.",
        "",
        *table_head("without a moved P", list(KINDS)),
    ]
    for which, shown in (
        ("zero", "zero-shot"),
        ("own", "own: 80 steps of Adam, plain"),
        ("own, ridge", "own: ridge, difference"),
    ):
        lines.append(table_row([shown, *(_cell(found[which][kind]) for kind in KINDS)]))
    lines += ["", "## How P is learned, translated and read", ""]
    lines += row_lines(found, "rows", {name: name for name in NAMES})
    lines += ["", "## Steps, as differences of fractions", "", *table_head("step", list(KINDS))]
    for name, step in found["steps"].items():
        cells = [_cell(step[kind], percent=False) for kind in KINDS]
        lines.append(table_row([name.replace(" - ", " − "), *cells]))
    lines += ["", "## Other leads", "", *row_lines(found, "leads", LEADS)]
    lines += ["", "## With 16 labelled examples of the receiver", ""]
    lines += row_lines(found, "few", FEW)
    lines += ["", "## Choices, made on two other tasks", ""]
    lines += table_head("row", ["penalty", "scale", "k"])
    for name, choice in chosen.items():
        penalty = f"{choice['penalty']:g}" if choice["penalty"] else ""
        factor = f"{choice['factor']:g}" if "factor" in choice else ""
        lines.append(table_row([name, penalty, f"{choice['scale']:g}", factor]))
    return "\n".join(lines) + "\n"


def short_table(found: Mapping[str, Any]) -> str:
    """Return the main rows, for the page of results."""
    names = (TODAY, "adam, difference", "ridge, plain", BEST, "ridge, forward, difference")
    return "\n".join(row_lines(found, "rows", {name: name for name in names}))


def finished() -> list[Job]:
    """Return the jobs whose results are there, in their order."""
    names = [f"transplant_ladder/{number}" for number in range(len(JOBS))]
    return [read_result(name) for name in names if (RESULTS / f"{name}.json").exists()]


def main() -> None:
    """Read the jobs and write the result."""
    benchmark_parser(__doc__).parse_args()
    jobs = finished()
    found, text = result_of(jobs), page(jobs, read_result("transplant_ladder/chosen"))
    write_result("transplant_ladder", found, text)
    write_between_marks("transplant_ladder", short_table(found))
    print(text)


if __name__ == "__main__":
    main()
