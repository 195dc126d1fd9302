"""The evidence's runs as tables and verdicts: reads what benchmarks/evidence.py ran, writes results/evidence.md and .json.

Run:  python -m benchmarks.accuracy.evidence_table [--runs runs/evidence] [--keep]      (then picture.py)

A claim is about Self, Others, Others in-group and out-group apart, and those own tasks of the clients that another client's contradict (the
same question and other answers). claims.py says when it holds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.accuracy.evidence import (
    BASELINES,
    FEDMOSAIC,
    SCENARIOS,
    SEEDS,
    VARIANTS,
    chosen_rates,
    labelled,
)
from benchmarks.common.claims import claim_cell, claims_table, judged
from benchmarks.common.marks import put
from benchmarks.common.paths import RESULTS
from benchmarks.common.tables import COLUMNS, shown, values_of
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.statistics import interval, paired
from fedmosaic.experiments.summaries import COLUMNS as MEASURED
from fedmosaic.experiments.summaries import compare_summaries
from fedmosaic.experiments.variants import slug
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.reporting.comparison import mean

MAIN = ("Self", "Others")
OURS = FEDMOSAIC.label
# Pairs of families that ask the same and want other answers.
CONTRADICTING = ("concept", "bond", "outfit", "journey", "lesson", "ledger")
CONTRADICTED = "Self, contradicted"
CLAIMED = (*COLUMNS, CONTRADICTED)
# What the paper says, as (claim, who, above whom).
CLAIMS = (
    ("FedMosaic above local training", OURS, ("sft",)),
    ("FedMosaic above the same adapters alone", OURS, ("alone",)),
    ("FedMosaic above every baseline", OURS, BASELINES[1:]),
    ("RELA above uniform weights", OURS, ("uniform",)),
    ("Bound of that: weights of an oracle above uniform ones", "oracle", ("uniform",)),
    ("RELA above its weights at the wrong peers", OURS, ("permuted",)),
    (
        "Extension *sharp*: tau in deviations of the similarities, above uniform weights",
        "sharp",
        ("uniform",),
    ),
    ("*sharp* above RELA as it is", "sharp", (OURS,)),
    ("Aligned A, B above random ones", OURS, ("unaligned",)),
    ("Aligned A, B above the same ones turned apart", OURS, ("turned",)),
    ("Sharing across architectures above sharing within", OURS, ("within",)),
    (
        "Extension *beside*: P, Q of others beside the mix of one's own, above sharing within",
        "beside",
        ("within",),
    ),
    ("*beside* above the same with A, B turned apart", "beside", ("beside, turned",)),
    ("*beside* above local training", "beside", ("sft",)),
    ("*beside* above every baseline", "beside", BASELINES[1:]),
    ("*beside* and *sharp* together, above *beside*", "beside, sharp", ("beside",)),
    (
        "Extension *pull*: a fifth of what is received enters one's own, above FedMosaic",
        "pull",
        (OURS,),
    ),
    ("*pull* above local training", "pull", ("sft",)),
    ("*pull* above every baseline", "pull", BASELINES[1:]),
)


def summaries(part: str, runs: Path) -> dict[str, dict[int, Any]]:
    """Of all finished runs of a part, by label and seed."""
    found: dict[str, dict[int, Any]] = {}
    for variant in labelled(part):
        for pretraining, seeds in SEEDS.items():
            for folder in sorted(runs.glob(f"{part}-{pretraining}*")):
                for seed in seeds:
                    if summary := RunFolder(
                        folder / slug(variant.label) / f"seed-{seed}"
                    ).summary():
                        found.setdefault(variant.label, {})[seed] = summary
    return found


def summaries_in(row: Mapping[str, Any]) -> dict[int, Any]:
    """What a row of the result says of each seed, as a summary of the run would."""
    found: dict[int, Any] = {}
    for place, seed in enumerate(row["seeds"]):
        costs = {name: row[name] for name in ("algorithm", "steps", "flops", "bytes")}
        summary: dict[str, Any] = {
            **costs,
            "rounds": {"of": row["rounds"]},
            "seconds": {"total": row["seconds"]},
        }
        for column, (*inner, last) in MEASURED.items():
            if column in row:
                at = summary
                for name in inner:
                    at = at.setdefault(name, {})
                at[last] = row[column]["values"][place] / 100
        found[seed] = summary
    return found


def contradicted(part: str, summary: Mapping[str, Any]) -> float:
    """Accuracy on those own tasks that another client's contradict, mean over them, in percent."""
    own = {client.name: client.tasks for client in load_scenario(SCENARIOS[part]).clients}
    return 100 * fmean(
        summary["clients"][client]["tasks"][task.name]
        for client, tasks in own.items()
        for task in tasks
        if task.name.removeprefix("miniature/").partition("-")[0] in CONTRADICTING
    )


def rows_of(
    part: str, runs: Mapping[str, Mapping[int, Any]], kept: Mapping[str, Any]
) -> dict[str, Any]:
    """The figures of a comparison, and accuracy on contradicted tasks beside them; of rows of the result (``kept``) those seeds that no
    run is there of stay."""
    order = [variant.label for variant in labelled(part) if variant.label in {*runs, *kept}]
    before = {label: summaries_in(row) for label, row in kept.items()}
    rows: dict[str, Any] = compare_summaries(
        {label: {**before.get(label, {}), **runs.get(label, {})} for label in order}
    )
    for label, row in rows.items():
        known = (
            dict(zip(kept[label]["seeds"], kept[label][CONTRADICTED]["values"], strict=True))
            if label in kept
            else {}
        )
        known |= {
            seed: round(contradicted(part, summary), 3)
            for seed, summary in runs.get(label, {}).items()
        }
        row[CONTRADICTED] = {"values": [known[seed] for seed in row["seeds"]]}
    return rows


def claims(rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line for each claim whose runs are there."""
    return judged(values_of(rows, CLAIMED), CLAIMS, CLAIMED)


def short_claims(parts: Mapping[str, Any]) -> str:
    """Self and Others of every claim and part, for the README."""
    told = {
        part: {line["claim"]: line for line in content["claims"]} for part, content in parts.items()
    }
    head = [f"{column}, {part}" for part in parts for column in MAIN]
    text = ["| claim | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for claim in next(iter(told.values())):
        cells = [
            claim_cell(found[claim], c) if claim in found else ""
            for found in told.values()
            for c in MAIN
        ]
        text.append(f"| {claim} | " + " | ".join(cells) + " |")
    return "\n".join(text)


def main_table(rows: Mapping[str, Any], chosen: Mapping[str, Sequence[str]]) -> str:
    """All algorithms, then FedMosaic's variants, with what FedMosaic has more than each of them."""
    values = values_of(rows)
    head = [*COLUMNS, f"Self: {OURS} −", f"Others: {OURS} −", "seeds", "steps", "rate"]
    text = ["| algorithm | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for label, row in rows.items():
        cells = [mean(row[c]) for c in COLUMNS]
        mine = label == OURS or OURS not in values
        cells += [
            "" if mine else shown(paired(values[OURS][c], values[label][c]), "+") for c in MAIN
        ]
        rate = ", ".join(setting.partition("=")[2] for setting in chosen.get(label, ()))
        text.append(
            f"| {label} | "
            + " | ".join([*cells, str(len(row["seeds"])), str(row["steps"]), rate])
            + " |"
        )
    return "\n".join(text)


def page(parts: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    own = {variant.label for variant in VARIANTS}
    lines = [
        "# The paper's claims on the miniature benchmark", "",
        "Made by `python -m benchmarks.accuracy.evidence static`, `… dynamic` and `python -m benchmarks.accuracy.evidence_table`, "
        "which tell what is run "
        "and when a claim holds. Accuracy in percent, mean ± half of a 95 % t-interval over seeds of two pretrainings; differences are "
        "paired by seed. The miniature world stands in for DRAKE in structure; it is not DRAKE.",
    ]  # fmt: skip
    for part, content in parts.items():
        rows = content["rows"]
        lines += ["", f"## {part.capitalize()}", "", claims_table(content["claims"], CLAIMED)]
        for title, group in (
            ("Algorithms", [k for k in rows if k not in own]),
            (f"{OURS} with one thing changed", [k for k in rows if k in own or k == OURS]),
        ):
            lines += [
                "",
                f"{title}:",
                "",
                main_table({k: rows[k] for k in group}, content["chosen"]),
            ]
    return "\n".join(lines) + "\n"


def short_table(parts: Mapping[str, Any]) -> str:
    """Self and Others of every algorithm and variant, best Self of the first part first, for the README."""
    values = {part: values_of(content["rows"]) for part, content in parts.items()}
    first = next(iter(values.values()))
    own = {variant.label for variant in VARIANTS}
    order = sorted(first, key=lambda label: (label in own, -fmean(first[label]["Self"].values())))
    head = [f"{column}, {part}" for part in parts for column in MAIN]
    lines = ["| | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for label in order:
        cells = [
            shown(interval(list(found[label][c].values()))) if label in found else ""
            for found in values.values()
            for c in MAIN
        ]
        lines.append(
            f"| {f'{OURS}, {label}' if label in own else label} | " + " | ".join(cells) + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/evidence"), help="where the comparisons are"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="figures of which no run is there stay as the result has them",
    )
    arguments = parser.parse_args()
    runs: Path = arguments.runs
    before = json.loads((RESULTS / "evidence.json").read_text()) if arguments.keep else {}
    parts: dict[str, Any] = {}
    for part in ("static", "dynamic"):
        kept, finished = before.get(part), summaries(part, runs)
        if finished:
            rows = rows_of(part, finished, kept["rows"] if kept else {})
            parts[part] = {
                "rows": rows,
                "chosen": kept["chosen"] if kept else chosen_rates(runs),
                "claims": claims(rows),
            }
        elif kept:
            parts[part] = kept
    if not parts:
        parser.error(
            f"{runs} holds no finished run; python -m benchmarks.accuracy.evidence makes them"
        )
    (RESULTS / "evidence.json").write_text(json.dumps(parts, indent=1) + "\n")
    (RESULTS / "evidence.md").write_text(page(parts))
    put("evidence", short_table(parts))
    put("claims", short_claims(parts))
    print(page(parts))


if __name__ == "__main__":
    main()
