"""Make the tables and verdicts of the evidence from the stored runs.

  python -m benchmarks.accuracy.evidence_table              writes runs/evidence/evidence.md
  python -m benchmarks.accuracy.evidence_table --publish    writes results/evidence.json and .md,
                                                            and the tables of docs/results.md
                                                            and README.md

The table may be partial. Published are the parts of which every row is finished; of the others,
what is published stays. With ``--finished-rows`` a part with unfinished rows is published without
them.

Each claim is judged on Self, on Others, on Others in-group and out-group, and on the clients'
conflicting tasks: own tasks of which another client has a counterpart that asks the same question
and expects other answers. The rules of the verdicts are in benchmarks/common/claims.py, the share
of the headroom in benchmarks/common/headroom.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy.evidence_claims import CLAIMS, OURS, ROUTABLE, routed
from benchmarks.accuracy.evidence_content import MAIN, content_of, labels_of, unfinished_rows
from benchmarks.accuracy.evidence_page import page, share_cells, shared_columns
from benchmarks.accuracy.evidence_parts import (
    DYNAMIC,
    HOMOGENEOUS,
    MINIATURES,
    PARTS,
    STATIC,
    UNMATCHED,
)
from benchmarks.accuracy.evidence_rows import (
    ADDITIVE,
    EXPERTS,
    FEDMOSAIC_EXPERTS,
    POOLED,
    ZERO_SHOT,
)
from benchmarks.accuracy.evidence_store import PartStore
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.claims import claim_cell
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import ROOT, read_result, write_result
from benchmarks.common.tables import table_head, table_row
from fedmosaic.reporting.comparison import mean

# Rows of the README's table, and their names there.
README_ROWS = {
    OURS: "fedmosaic",
    routed(OURS): "fedmosaic, routed",
    ADDITIVE: "fedmosaic-additive",
    routed(ADDITIVE): "fedmosaic-additive, routed",
    EXPERTS: EXPERTS,
    FEDMOSAIC_EXPERTS: FEDMOSAIC_EXPERTS,
    **{name: name for name in ("fedsim", "sft", "fedsa-lora", "hetlora", "flexlora", "fedavg")},
    POOLED: f"{POOLED} (oracle)",
    ZERO_SHOT: ZERO_SHOT,
}


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
        labels += labels_of(first, "experts") + labels_of(first, "oracle")
        labels += [label for label in first if label == ZERO_SHOT]
        labels += [routed(label) for label in ROUTABLE if routed(label) in first]
    lines = table_head("variant" if variants else "algorithm", _main_columns(shown))
    for label in sorted(labels, key=lambda label: -first[label]["Self"]["mean"]):
        rows = [content["rows"].get(label) for content in shown.values()]
        cells = [mean(row[c]) if row else "not run" for row in rows for c in MAIN]
        lines.append(table_row([label, *cells]))
    return "\n".join(lines)


def short_claims(parts: Mapping[str, Any]) -> str:
    """Return the verdicts on Self and Others in every part, for the page of results.

    Claims about one thing have a table of their own, where they are about several.
    """
    shown = matched(parts)
    judged = {
        part: {line["claim"]: line for line in content["claims"]} for part, content in shown.items()
    }
    tables: dict[str, list[str]] = {}
    for about, claims in CLAIMS.items():
        for text in dict.fromkeys(claim.text for claim in claims):
            if any(text in found for found in judged.values()):
                cells = [
                    claim_cell(found[text], c) if text in found else "not run"
                    for found in judged.values()
                    for c in MAIN
                ]
                tables.setdefault(about, table_head("claim", _main_columns(shown)))
                tables[about].append(table_row([text, *cells]))
    texts = {about: "\n".join(lines) for about, lines in tables.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    return "\n\n".join(f"{about}:\n\n{text}" for about, text in texts.items())


def readme_table(parts: Mapping[str, Any]) -> str:
    """Return Self and Others of the rows that a user chooses among, best Self first.

    Where the homogeneous part is published, it stands in place of the dynamic one. Shares of the
    headroom stand beside the accuracies of a part that has them.
    """
    second = HOMOGENEOUS if HOMOGENEOUS in parts else DYNAMIC
    shown = {part: parts[part] for part in (STATIC, second) if part in parts}
    rows = shown[STATIC]["rows"]
    shared = {part: shared_columns(content) for part, content in shown.items()}
    columns = []
    for part, own in shared.items():
        columns += [f"{c}, {part}" for c in MAIN] + [f"headroom, {c}, {part}" for c in own]
    lines = table_head("", columns)
    lines[0] = lines[0].replace("|  |", "| |")
    known = [label for label in README_ROWS if label in rows]
    for label in sorted(known, key=lambda label: -rows[label]["Self"]["mean"]):
        cells: list[str] = []
        for part, content in shown.items():
            row = content["rows"].get(label)
            cells += [mean(row[c]) if row else "" for c in MAIN]
            cells += share_cells(content, label, shared[part])
        lines.append(table_row([README_ROWS[label], *cells]))
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
    write_between_marks("evidence", readme_table(parts), ROOT / "README.md")


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
                read_result("evidence"),
                {part: stores[part] for part in MINIATURES},
                finished_rows=arguments.finished_rows,
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
