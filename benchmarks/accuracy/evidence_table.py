"""Make the tables and verdicts of the evidence from the stored runs.

  python -m benchmarks.accuracy.evidence_table              writes runs/evidence/evidence.md
  python -m benchmarks.accuracy.evidence_table --publish    writes results/evidence.json and .md,
                                                            and the tables of docs/results.md
                                                            and README.md

The table may be partial. Published are the parts of which every row is finished; of the others,
what is published stays. ``--finished-rows PART`` publishes a part without its unfinished rows.

Each claim is judged on Self, on Others, on Others in-group and out-group, and on the clients'
conflicting tasks: own tasks of which another client has a counterpart that asks the same question
and expects other answers. The rules of the verdicts are in benchmarks/common/claims.py, the share
of the headroom in benchmarks/common/headroom.py.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from benchmarks.accuracy.evidence_content import content_of, unfinished_rows
from benchmarks.accuracy.evidence_page import page
from benchmarks.accuracy.evidence_parts import PARTS
from benchmarks.accuracy.evidence_short import readme_table, tables_of
from benchmarks.accuracy.evidence_store import PartStore
from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import ROOT, read_result, write_result


def published_parts(
    before: Mapping[str, Any], stores: Mapping[str, PartStore], *, finished_rows: Collection[str]
) -> dict[str, Any]:
    """Return what is to be published: new content where a part is finished, else the earlier one.

    Args:
        before: what is published.
        stores: the stored runs of every part.
        finished_rows: parts that are published without their unfinished rows.

    Raises:
        ValueError: no part has anything new to publish.
    """
    parts: dict[str, Any] = {}
    reasons: list[str] = []
    for part, store in stores.items():
        unfinished = unfinished_rows(store)
        allowed = part in finished_rows or not unfinished
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
    for name, table in tables_of(parts).items():
        write_between_marks(name, table)
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
        "--finished-rows",
        nargs="+",
        choices=list(PARTS),
        default=[],
        metavar="PART",
        help="publish these parts without their unfinished rows",
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
