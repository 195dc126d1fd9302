"""The transplant test's figures as a table with intervals: reads results/transplant/*.json, writes results/transplant.md and .json.

Run:  python -m benchmarks.accuracy.transplant_table

A value is a mean over directions and tasks; a seed is one job, and intervals are Student's over the five jobs, of paired differences.
*Fraction* is the share of the receiver's own gain that moves, (moved − zero) / (own − zero), of the means of a job.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.accuracy.transplant import FAR, JOBS, NEAR, RESULTS, VARIANTS
from benchmarks.common.marks import put
from fedmosaic.experiments.statistics import Interval, interval

KINDS = {"near": range(len(NEAR)), "far": range(len(NEAR), len(NEAR) + len(FAR))}
SCORES = ("zero", "other", "moved", "own", "best", "cold", "warm")


def score(
    job: Mapping[str, Any], variant: str, which: str, kind: str, direction: str | None = None
) -> float:
    """The mean over the kind's tasks, and over directions or models; of the taker of one direction where that is given."""
    lines = job["zero"] if which == "zero" else job["variants"][variant][which]
    if direction is not None:
        lines = {
            name: row
            for name, row in lines.items()
            if name == direction or name == direction.split(" -> ")[1]
        }
    return mean(row[task] for row in lines.values() for task in KINDS[kind])


def fraction(
    job: Mapping[str, Any], variant: str, kind: str, direction: str | None = None
) -> float:
    zero, moved, own = (
        score(job, variant, which, kind, direction) for which in ("zero", "moved", "own")
    )
    return (moved - zero) / (own - zero)


def shown(found: Interval, percent: bool = True) -> str:
    scale, digits = (100, 1) if percent else (1, 2)
    half = "" if found.half is None else f" ± {scale * found.half:.{digits}f}"
    return f"{scale * found.mean:.{digits}f}{half}"


def summary(
    jobs: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    found: dict[str, Any] = {}
    lines = [
        "# P, Q of one architecture in another",
        "",
        f"Accuracy in percent, mean ± half of a 95 % interval over {len(jobs)} seeds on "
        f"{len({job['pretraining'] for job in jobs})} pretrainings: three models, six directions, {len(NEAR)} near and {len(FAR)} far "
        "tasks. Made by `python -m benchmarks.accuracy.transplant`, which tells what is what, "
        "and `python -m benchmarks.accuracy.transplant_table`.",
    ]
    for kind, tasks in (("near", NEAR), ("far", FAR)):
        lines += ["", f"## {kind.capitalize()} tasks ({', '.join(tasks)})", ""]
        lines += [
            "| A, B | zero-shot | other | **moved** | own | best | fraction | moved − other | cold | warm | warm − cold |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for variant in VARIANTS:
            values = {which: [score(job, variant, which, kind) for job in jobs] for which in SCORES}
            row = {which: interval(each) for which, each in values.items()}
            row["fraction"] = interval([fraction(job, variant, kind) for job in jobs])
            for name, one, other in (
                ("specific", "moved", "other"),
                ("start", "warm", "cold"),
                ("gain", "moved", "zero"),
            ):
                row[name] = interval(
                    [a - b for a, b in zip(values[one], values[other], strict=True)]
                )
            found.setdefault(variant, {})[kind] = {name: vars(value) for name, value in row.items()}
            order = (
                "zero",
                "other",
                "moved",
                "own",
                "best",
                "fraction",
                "specific",
                "cold",
                "warm",
                "start",
            )
            lines.append(
                f"| {variant} | " + " | ".join(shown(row[n], n != "fraction") for n in order) + " |"
            )
    lines += ["", "## Steps of the ladder", "", "| step | near | far |", "|---|---|---|"]
    for lower, upper in itertools.pairwise(VARIANTS):
        steps = {}
        for kind in KINDS:
            gaps = [
                score(job, upper, "moved", kind) - score(job, lower, "moved", kind) for job in jobs
            ]
            steps[kind] = interval(gaps)
        found.setdefault("steps", {})[f"{upper} - {lower}"] = {
            kind: vars(value) for kind, value in steps.items()
        }
        lines.append(f"| {upper} − {lower} | {shown(steps['near'])} | {shown(steps['far'])} |")
    lines += ["", "## Refined, by direction", ""]
    lines += [
        "| direction | moved near | own | fraction | moved far | own | fraction |",
        "|---|---|---|---|---|---|---|",
    ]
    for direction in jobs[0]["variants"]["refined"]["moved"]:
        cells = []
        for kind in KINDS:
            cells += [
                shown(interval([score(job, "refined", which, kind, direction) for job in jobs]))
                for which in ("moved", "own")
            ]
            cells.append(
                shown(
                    interval([fraction(job, "refined", kind, direction) for job in jobs]),
                    percent=False,
                )
            )
        lines.append(f"| {direction} | " + " | ".join(cells) + " |")
    lines += ["", "## What was chosen on two other tasks", ""]
    lines += ["| A, B | rate | second moment | scale of what is moved |", "|---|---|---|---|"]
    for variant in VARIANTS:
        choice = chosen[variant]["moved"]
        lines.append(
            f"| {variant} | {choice['rate']} | for each {choice['moment']} | {choice['scale']:g} |"
        )
    cosine = {
        v: mean(
            value for job in jobs for row in job["variants"][v]["cosine"].values() for value in row
        )
        for v in VARIANTS
    }
    found["cosine"] = cosine
    lines += [
        "",
        "Cosine of two models' P for the same task: "
        + ", ".join(f"{v} {cosine[v]:.2f}" for v in VARIANTS)
        + ".",
    ]
    return found, "\n".join(lines) + "\n"


def short_table(found: Mapping[str, Any]) -> str:
    """For the README."""
    lines = ["| A, B | near: moved | own | far: moved | own |", "|---|---|---|---|---|"]
    for variant in VARIANTS:
        cells = [
            shown(Interval(**found[variant][kind][which]))
            for kind in KINDS
            for which in ("moved", "own")
        ]
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    folder = RESULTS / "transplant"
    jobs = [json.loads((folder / f"{number}.json").read_text()) for number in range(len(JOBS))]
    found, text = summary(jobs, json.loads((folder / "chosen.json").read_text()))
    Path(RESULTS / "transplant.json").write_text(json.dumps(found, indent=1) + "\n")
    Path(RESULTS / "transplant.md").write_text(text)
    put("transplant", short_table(found))
    print(text)


if __name__ == "__main__":
    main()
