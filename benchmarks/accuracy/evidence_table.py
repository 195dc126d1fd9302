"""Write the tables and verdicts of the evidence: results/evidence.json and evidence.md.

  python -m benchmarks.accuracy.evidence_table [--runs runs/evidence] [--keep]

Reads the runs of benchmarks.accuracy.evidence. Each claim is judged on Self, on Others, on Others
in-group and out-group, and on the clients' conflicting tasks: own tasks of which another client
has a counterpart that asks the same question and expects other answers. The rules of the verdicts
are in benchmarks/common/claims.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.accuracy.evidence import SCENARIOS, SEEDS, VARIANTS, chosen_rates, variants_of
from benchmarks.accuracy.evidence_claims import CLAIMS, OURS
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.claims import claim_cell, claims_table, judge
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import read_result, write_result
from benchmarks.common.tables import (
    COLUMNS,
    format_interval,
    table_head,
    table_row,
    values_by_seed,
)
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.statistics import paired
from fedmosaic.experiments.summaries import COLUMNS as MEASURED
from fedmosaic.experiments.summaries import compare_summaries
from fedmosaic.experiments.variants import slug
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.reporting.comparison import mean

MAIN = ("Self", "Others")
# Pairs of task families that ask the same question and expect other answers.
CONFLICTING_FAMILIES = ("concept", "bond", "outfit", "journey", "lesson", "ledger")
CONFLICTING = "Self, conflicting"
JUDGED = (*COLUMNS, CONFLICTING)


def finished_runs(part: str, runs: Path) -> dict[str, dict[int, Any]]:
    """Return the summaries of all finished runs of a part, by label and seed."""
    found: dict[str, dict[int, Any]] = {}
    for variant in variants_of(part):
        for pretraining, seeds in SEEDS.items():
            for folder in sorted(runs.glob(f"{part}-{pretraining}*")):
                for seed in seeds:
                    run = RunFolder(folder / slug(variant.label) / f"seed-{seed}")
                    if summary := run.summary():
                        found.setdefault(variant.label, {})[seed] = summary
    return found


def published_runs(row: Mapping[str, Any]) -> dict[int, Any]:
    """Return what a row of the result says of each seed, in the form of a run's summary."""
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


def conflicting_accuracy(part: str, summary: Mapping[str, Any]) -> float:
    """Return the mean accuracy on the clients' conflicting tasks, in percent."""
    own = {client.name: client.tasks for client in load_scenario(SCENARIOS[part]).clients}
    return 100 * fmean(
        summary["clients"][client]["tasks"][task.name]
        for client, tasks in own.items()
        for task in tasks
        if task.name.removeprefix("miniature/").partition("-")[0] in CONFLICTING_FAMILIES
    )


def rows_of(
    part: str, runs: Mapping[str, Mapping[int, Any]], published: Mapping[str, Any]
) -> dict[str, Any]:
    """Compare all rows of a part, and add the accuracy on conflicting tasks.

    Args:
        part: ``static`` or ``dynamic``.
        runs: summaries of finished runs by label and seed.
        published: rows of an earlier result, used for the labels and seeds without a run.
    """
    order = [v.label for v in variants_of(part) if v.label in {*runs, *published}]
    earlier = {label: published_runs(row) for label, row in published.items()}
    rows: dict[str, Any] = compare_summaries(
        {label: {**earlier.get(label, {}), **runs.get(label, {})} for label in order}
    )
    for label, row in rows.items():
        known: dict[int, float] = {}
        if label in published:
            values = published[label][CONFLICTING]["values"]
            known = dict(zip(published[label]["seeds"], values, strict=True))
        for seed, summary in runs.get(label, {}).items():
            known[seed] = round(conflicting_accuracy(part, summary), 3)
        row[CONFLICTING] = {"values": [known[seed] for seed in row["seeds"]]}
    return rows


def judged_claims(rows: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Judge every claim whose rows are there."""
    return judge(values_by_seed(rows, JUDGED), CLAIMS, JUDGED)


def page(parts: Mapping[str, Any]) -> str:
    """Return the whole result in Markdown."""
    variants = {variant.label for variant in VARIANTS}
    lines = [
        "# The paper's claims on the miniature benchmark",
        "",
        "Made by `python -m benchmarks.accuracy.evidence static`, `… dynamic` and "
        "`python -m benchmarks.accuracy.evidence_table`, whose docstrings say what is run and how "
        "claims are judged. Accuracy in percent: mean ± half-width of the 95 % t-interval over "
        "five seeds. The models of seeds 3 and 4 were pretrained a second time, from another "
        "seed. Differences are paired by seed. Intervals are not corrected for the number of "
        "comparisons. The miniature world stands in for DRAKE in structure; it is not DRAKE.",
    ]
    for part, content in parts.items():
        rows = content["rows"]
        lines += ["", f"## {part.capitalize()}", "", claims_table(content["claims"], JUDGED)]
        for title, labels in (
            ("Algorithms", [k for k in rows if k not in variants]),
            (f"{OURS} with one thing changed", [k for k in rows if k in variants or k == OURS]),
        ):
            table = main_table({k: rows[k] for k in labels}, content["chosen"])
            lines += ["", f"{title}:", "", table]
    return "\n".join(lines) + "\n"


def main_table(rows: Mapping[str, Any], chosen: Mapping[str, Sequence[str]]) -> str:
    """Return the accuracies of all rows, and FedMosaic's gain over each of them."""
    values = values_by_seed(rows)
    columns = [*COLUMNS, f"Self: {OURS} −", f"Others: {OURS} −", "seeds", "steps", "rate"]
    lines = table_head("algorithm", columns)
    for label, row in rows.items():
        cells = [mean(row[c]) for c in COLUMNS]
        compared = label != OURS and OURS in values
        cells += [
            format_interval(paired(values[OURS][c], values[label][c]), "+") if compared else ""
            for c in MAIN
        ]
        rate = ", ".join(setting.partition("=")[2] for setting in chosen.get(label, ()))
        lines.append(table_row([label, *cells, str(len(row["seeds"])), str(row["steps"]), rate]))
    return "\n".join(lines)


def short_table(parts: Mapping[str, Any], *, variants: bool) -> str:
    """Return Self and Others of some rows, best Self in the first part first.

    Args:
        parts: the result.
        variants: whether to show FedMosaic with one thing changed, or the algorithms.
    """
    first = next(iter(parts.values()))["rows"]
    changed = {variant.label for variant in VARIANTS}
    order = sorted(
        (label for label in first if (label in changed) == variants or label == OURS),
        key=lambda label: -first[label]["Self"]["mean"],
    )
    lines = table_head("variant" if variants else "algorithm", _main_columns(parts))
    for label in order:
        rows = [content["rows"].get(label) for content in parts.values()]
        cells = [mean(row[c]) if row else "not run" for row in rows for c in MAIN]
        lines.append(table_row([label, *cells]))
    return "\n".join(lines)


def short_claims(parts: Mapping[str, Any]) -> str:
    """Return the verdicts on Self and Others in every part, for the page of results."""
    judged = {
        part: {line["claim"]: line for line in content["claims"]} for part, content in parts.items()
    }
    lines = table_head("claim", _main_columns(parts))
    for claim in next(iter(judged.values())):
        cells = [
            claim_cell(found[claim], c) if claim in found else "not run"
            for found in judged.values()
            for c in MAIN
        ]
        lines.append(table_row([claim, *cells]))
    return "\n".join(lines)


def _main_columns(parts: Mapping[str, Any]) -> list[str]:
    return [f"{column}, {part}" for part in parts for column in MAIN]


def main() -> None:
    """Read the runs, judge the claims, write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/evidence"),
        help="folder of the comparisons (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help="keep the published figures of every row and seed that has no run here",
    )
    arguments = parser.parse_args()
    runs: Path = arguments.runs
    before = read_result("evidence") if arguments.keep else {}
    parts: dict[str, Any] = {}
    for part in SCENARIOS:
        published, finished = before.get(part), finished_runs(part, runs)
        if finished:
            rows = rows_of(part, finished, published["rows"] if published else {})
            parts[part] = {
                "rows": rows,
                "chosen": published["chosen"] if published else chosen_rates(runs),
                "claims": judged_claims(rows),
            }
        elif published:
            parts[part] = published
    if not parts:
        parser.error(
            f"{runs} holds no finished run: python -m benchmarks.accuracy.evidence makes them"
        )
    write_result("evidence", parts, page(parts))
    write_between_marks("evidence", short_table(parts, variants=False))
    write_between_marks("variants", short_table(parts, variants=True))
    write_between_marks("claims", short_claims(parts))
    print(page(parts))


if __name__ == "__main__":
    main()
