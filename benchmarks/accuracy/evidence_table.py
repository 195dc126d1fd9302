"""Make the tables and verdicts of the evidence from the stored runs.

  python -m benchmarks.accuracy.evidence_table              writes runs/evidence/evidence.md
  python -m benchmarks.accuracy.evidence_table --publish    writes results/evidence.json and .md,
                                                            and the tables of docs/results.md

The table may be partial. Published are the parts of which every row is finished; of the others,
what is published stays. With ``--finished-rows`` a part with unfinished rows is published without
them.

Each claim is judged on Self, on Others, on Others in-group and out-group, and on the clients'
conflicting tasks: own tasks of which another client has a counterpart that asks the same question
and expects other answers. The rules of the verdicts are in benchmarks/common/claims.py, the share
of the headroom in benchmarks/common/headroom.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.evidence_claims import OURS
from benchmarks.accuracy.evidence_content import (
    JUDGED,
    MAIN,
    content_of,
    labels_of,
    other_views,
    unfinished_rows,
)
from benchmarks.accuracy.evidence_rows import PARTS, ROUTED, UNMATCHED, ZERO_SHOT
from benchmarks.accuracy.evidence_store import PartStore
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.claims import claim_cell, claims_table
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import read_result, write_result
from benchmarks.common.tables import (
    COLUMNS,
    format_interval,
    table_head,
    table_row,
    values_by_seed,
)
from fedmosaic.experiments.statistics import Interval, paired
from fedmosaic.reporting.comparison import mean

SHARES = tuple(f"headroom, {column}" for column in MAIN)
INTRODUCTION = """\
# The paper's claims on the miniature benchmark

Made by `python -m benchmarks.accuracy.evidence PART` for each part and `python -m \
benchmarks.accuracy.evidence_table --publish`, whose docstrings say what is run and how claims are \
judged. Accuracy in percent: mean ± half-width of the 95 % t-interval over five seeds. The models \
of seeds 3 and 4 were pretrained a second time, from another seed. Differences are paired by seed. \
Intervals are not corrected for the number of comparisons. The miniature world stands in for DRAKE \
in structure; it is not DRAKE."""
HEADROOM = """\
Headroom: the share, in percent, of what `pooled` gains over local training; `pooled` trains an \
adapter of each architecture on the data of all clients."""
ROUTING = """\
The same runs with routing: an input like the client's own training prompts goes to the first \
view, any other to what the client received. Gains are over the same run without routing."""


def page(parts: Mapping[str, Any]) -> str:
    """Return the whole result in Markdown."""
    lines = [INTRODUCTION]
    for part, content in parts.items():
        lines += ["", f"## {part.capitalize()}", "", claims_table(content["claims"], JUDGED)]
        for title, text in _tables(content):
            lines += ["", title, "", text]
    return "\n".join(lines) + "\n"


def _tables(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the tables of a part with their titles; those without rows are left out."""
    rows = content["rows"]
    views = other_views(rows)
    oracles = labels_of(rows, "oracle") + [label for label in rows if label == ZERO_SHOT]
    changed = labels_of(rows, "changed")
    found = [("Algorithms:", main_table(content, labels_of(rows, "algorithm")))]
    if oracles:
        title = f"Training on all data, and the models as they are. {HEADROOM}"
        found.append((title, main_table(content, oracles)))
    if changed:
        title = f"{OURS} with one thing changed:"
        found.append((title, main_table(content, [OURS, *changed] if OURS in rows else changed)))
    if routed := [label for label, _, view in views if view == ROUTED]:
        found.append((ROUTING, views_table(content, routed)))
    if others := [label for label, _, view in views if view != ROUTED and label != ZERO_SHOT]:
        found.append(("Further views and controls:", views_table(content, others)))
    return found


def main_table(content: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Return the accuracies of rows, and FedMosaic's gain over each of them."""
    rows, shares = content["rows"], SHARES if content.get("headroom") else ()
    values = values_by_seed(rows)
    gains = [f"{column}: {OURS} −" for column in MAIN]
    lines = table_head("algorithm", [*COLUMNS, *shares, *gains, "seeds", "steps", "rate"])
    for label in labels:
        row = rows[label]
        cells = [mean(row[c]) for c in COLUMNS]
        cells += share_cells(content, label) if shares else []
        compared = label != OURS and OURS in values
        cells += [
            format_interval(paired(values[OURS][c], values[label][c]), "+") if compared else ""
            for c in MAIN
        ]
        rate = ", ".join(setting.partition("=")[2] for setting in content["chosen"].get(label, ()))
        lines.append(table_row([label, *cells, str(len(row["seeds"])), str(row["steps"]), rate]))
    return "\n".join(lines)


def views_table(content: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Return the accuracies of further views, and their gain over the same runs' own view."""
    rows, shares = content["rows"], SHARES if content.get("headroom") else ()
    values = values_by_seed(rows)
    first = {label: row.label for label, row, _ in other_views(rows)}
    gains = [f"{column}: gain" for column in MAIN]
    lines = table_head("algorithm", [*COLUMNS, *shares, *gains, "seeds"])
    for label in labels:
        cells = [mean(rows[label][c]) for c in COLUMNS]
        cells += share_cells(content, label) if shares else []
        cells += [
            format_interval(paired(values[label][c], values[first[label]][c]), "+") for c in MAIN
        ]
        lines.append(table_row([label, *cells, str(len(rows[label]["seeds"]))]))
    return "\n".join(lines)


def share_cells(content: Mapping[str, Any], label: str) -> list[str]:
    """Return the shares of the headroom of a row; empty cells where there is none."""
    shares = content["headroom"].get(label, {})
    return [format_interval(Interval(**shares[c])) if c in shares else "" for c in MAIN]


def short_table(parts: Mapping[str, Any], *, variants: bool) -> str:
    """Return Self and Others of some rows, best Self in the first part first.

    Args:
        parts: the result.
        variants: whether to show FedMosaic with one thing changed, or the algorithms.
    """
    shown = matched(parts)
    first = next(iter(shown.values()))["rows"]
    labels = labels_of(first, "changed" if variants else "algorithm")
    if variants:
        labels.append(OURS)
    else:
        labels += labels_of(first, "oracle") + [label for label in first if label == ZERO_SHOT]
        labels += [label for label, _, view in other_views(first) if view == ROUTED]
    lines = table_head("variant" if variants else "algorithm", _main_columns(shown))
    for label in sorted(labels, key=lambda label: -first[label]["Self"]["mean"]):
        rows = [content["rows"].get(label) for content in shown.values()]
        cells = [mean(row[c]) if row else "not run" for row in rows for c in MAIN]
        lines.append(table_row([label, *cells]))
    return "\n".join(lines)


def short_claims(parts: Mapping[str, Any]) -> str:
    """Return the verdicts on Self and Others in every part, for the page of results."""
    shown = matched(parts)
    judged = {
        part: {line["claim"]: line for line in content["claims"]} for part, content in shown.items()
    }
    lines = table_head("claim", _main_columns(shown))
    for claim in dict.fromkeys(claim for found in judged.values() for claim in found):
        cells = [
            claim_cell(found[claim], c) if claim in found else "not run"
            for found in judged.values()
            for c in MAIN
        ]
        lines.append(table_row([claim, *cells]))
    return "\n".join(lines)


def matched(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts at equal compute."""
    return {part: content for part, content in parts.items() if part != UNMATCHED}


def _main_columns(parts: Mapping[str, Any]) -> list[str]:
    return [f"{column}, {part}" for part in parts for column in MAIN]


def published_parts(
    before: Mapping[str, Any], stores: Mapping[str, PartStore], *, finished_rows: bool
) -> dict[str, Any]:
    """Return what is to be published: new content where a part is finished, else the earlier one.

    Args:
        before: what is published.
        stores: the stored runs of every part.
        finished_rows: whether a part is published without its unfinished rows.

    Raises:
        ValueError: no part has anything new to publish.
    """
    parts: dict[str, Any] = {}
    reasons: list[str] = []
    for part, store in stores.items():
        unfinished = unfinished_rows(store)
        allowed = finished_rows or not unfinished
        content = content_of(store, unfinished) if allowed else None
        if content is not None:
            parts[part] = content
        else:
            reasons.append(f"{part} lacks {', '.join(unfinished)}")
            if part in before:
                parts[part] = before[part]
    if len(reasons) == len(stores):
        raise ValueError(
            "nothing is published, since every part is unfinished: " + "; ".join(reasons)
        )
    for reason in reasons:
        print(f"not published: {reason}")
    return parts


def publish(parts: Mapping[str, Any]) -> None:
    """Write the result and the tables of the page of results."""
    write_result("evidence", parts, page(parts))
    write_between_marks("evidence", short_table(parts, variants=False))
    write_between_marks("variants", short_table(parts, variants=True))
    write_between_marks("claims", short_claims(parts))


def main() -> None:
    """Make the tables, and publish them if asked to."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/evidence/evidence.md"),
        help="file of the table that is not published (default: %(default)s)",
    )
    parser.add_argument(
        "--publish", action="store_true", help="publish the parts that are finished"
    )
    parser.add_argument(
        "--finished-rows", action="store_true", help="publish parts without unfinished rows"
    )
    arguments = parser.parse_args()
    stores = {part: PartStore(part) for part in PARTS}
    if arguments.publish:
        try:
            parts = published_parts(
                read_result("evidence"), stores, finished_rows=arguments.finished_rows
            )
        except ValueError as error:
            parser.error(str(error))
        publish(parts)
        return
    parts = {part: found for part, store in stores.items() if (found := content_of(store))}
    if not parts:
        parser.error("no run is finished: python -m benchmarks.accuracy.evidence PART makes them")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(page(parts))
    print(page(parts))


if __name__ == "__main__":
    main()
