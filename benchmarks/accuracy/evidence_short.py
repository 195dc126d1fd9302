"""Make the tables of the evidence in docs/results.md and README.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.evidence_claims import MAIN_CLAIMS, OURS, ROUTABLE, routed
from benchmarks.accuracy.evidence_content import MAIN, labels_of
from benchmarks.accuracy.evidence_page import share_cells, shared_columns
from benchmarks.accuracy.evidence_parts import DYNAMIC, HOMOGENEOUS, LANGUAGE, STATIC, UNMATCHED
from benchmarks.accuracy.evidence_rows import (
    EXPERTS,
    FEDMOSAIC_EXPERTS,
    LOCAL,
    POOLED,
    ZERO_SHOT,
)
from benchmarks.common.claims import claim_cell
from benchmarks.common.tables import table_head, table_row
from fedmosaic.reporting.comparison import mean

# Parts whose verdicts stand in one table.
OF_MINIATURES = (STATIC, DYNAMIC, HOMOGENEOUS)
# Rows of the README's table, and their names there.
README_ROWS = {
    OURS: "fedmosaic",
    routed(OURS): "fedmosaic, routed",
    EXPERTS: EXPERTS,
    FEDMOSAIC_EXPERTS: FEDMOSAIC_EXPERTS,
    **{name: name for name in ("fedsim", "sft", "fedavg")},
    POOLED: f"{POOLED} (oracle)",
}


def tables_of(parts: Mapping[str, Any]) -> dict[str, str]:
    """Return the tables of docs/results.md, by the name of their marks."""
    several = {part: parts[part] for part in OF_MINIATURES if part in parts}
    found = {
        "evidence": short_table(parts, variants=False),
        "variants": short_table(parts, variants=True),
        "claims": short_claims(several),
    }
    for part in (HOMOGENEOUS, LANGUAGE):
        if part in parts:
            found[part] = table_of_part(part, parts[part])
    if UNMATCHED in parts:
        found["equal steps"] = steps_table(parts)
    if LANGUAGE in parts:
        found[f"{LANGUAGE} claims"] = short_claims({LANGUAGE: parts[LANGUAGE]})
    return found


def short_table(parts: Mapping[str, Any], *, variants: bool) -> str:
    """Return the accuracies with several architectures, best Self in the first part first.

    Args:
        parts: the result.
        variants: whether to show FedMosaic with one thing changed, or the algorithms.
    """
    shown = {part: parts[part] for part in (STATIC, DYNAMIC) if part in parts}
    first = next(iter(shown.values()))["rows"]
    labels = [OURS, *labels_of(first, "changed")] if variants else _labels(first)
    return _table("variant" if variants else "algorithm", shown, {label: label for label in labels})


def table_of_part(part: str, content: Mapping[str, Any]) -> str:
    """Return the accuracies of a part, FedMosaic's variants too, and the MB of all clients."""
    rows = content["rows"]
    named = {label: label for label in (*_labels(rows), *labels_of(rows, "changed"))}
    sent = {
        label: " / ".join(f"{rows[label]['bytes'][way] / 1e6:.0f}" for way in ("up", "down"))
        for label in named
    }
    return _table("algorithm", {part: content}, named, {"MB up / down": sent})


def steps_table(parts: Mapping[str, Any]) -> str:
    """Return the accuracies with equal steps of rows that have fewer at equal compute.

    Local training, which has as many in both, stands beside them.
    """
    equal, matched = parts[UNMATCHED]["rows"], parts[STATIC]["rows"]
    named = {
        label: label
        for label in (*_labels(equal), *labels_of(equal, "changed"))
        if label == LOCAL or equal[label]["steps"] != matched[label]["steps"]
    }
    shown = {"equal steps": parts[UNMATCHED], "equal compute": parts[STATIC]}
    steps = {label: str(matched[label]["steps"]) for label in named}
    return _table("algorithm", shown, named, {"steps at equal compute": steps})


def readme_table(parts: Mapping[str, Any]) -> str:
    """Return the accuracies of the rows that a user chooses among, best Self first.

    Where the homogeneous part is published, it stands in place of the dynamic one.
    """
    second = HOMOGENEOUS if HOMOGENEOUS in parts else DYNAMIC
    shown = {part: parts[part] for part in (STATIC, second) if part in parts}
    known = [label for content in shown.values() for label in content["rows"]]
    return _table("", shown, {label: README_ROWS[label] for label in README_ROWS if label in known})


def short_claims(parts: Mapping[str, Any]) -> str:
    """Return the main verdicts on Self and Others in some parts, a table for each subject."""
    judged = {
        part: {line["claim"]: line for line in content["claims"]} for part, content in parts.items()
    }
    found: list[str] = []
    for about, claims in MAIN_CLAIMS.items():
        texts = [claim.text for claim in claims]
        columns = {part: lines for part, lines in judged.items() if lines.keys() & set(texts)}
        if columns:
            heads = [
                f"{column}, {part}" if len(parts) > 1 else column
                for part in columns
                for column in MAIN
            ]
            rows = [
                [text]
                + [
                    claim_cell(lines[text], c) if text in lines else "not run"
                    for lines in columns.values()
                    for c in MAIN
                ]
                for text in texts
                if any(text in lines for lines in columns.values())
            ]
            lines = [*table_head("claim", heads), *(table_row(row) for row in rows)]
            found.append(f"{about}:\n\n" + "\n".join(lines))
    return "\n\n".join(found)


def _labels(rows: Mapping[str, Any]) -> list[str]:
    """Return all labels but those of FedMosaic with one thing changed, and of controls."""
    kinds = [
        label for kind in ("algorithm", "experts", "oracle") for label in labels_of(rows, kind)
    ]
    further = [ZERO_SHOT, *(routed(label) for label in ROUTABLE)]
    return [*kinds, *(label for label in further if label in rows)]


def _table(
    first: str,
    parts: Mapping[str, Any],
    named: Mapping[str, str],
    more: Mapping[str, Mapping[str, str]] | None = None,
) -> str:
    """Return Self and Others of rows with the shares of the headroom, best Self first.

    Args:
        first: head of the first column.
        parts: the parts, the one that sorts first.
        named: what to call each label.
        more: further columns, by label.
    """
    shared = {part: shared_columns(content) for part, content in parts.items()}
    heads: list[str] = []
    for part, own in shared.items():
        heads += [f"{c}, {part}" for c in MAIN] + [f"headroom, {c}, {part}" for c in own]
    if len(parts) == 1:
        heads = [head.rpartition(",")[0] for head in heads]
    lines = table_head(first, [*heads, *(more or {})])
    lines[0] = lines[0].replace("|  |", "| |")
    for label in _best_first(named, [content["rows"] for content in parts.values()]):
        cells: list[str] = []
        for part, content in parts.items():
            row = content["rows"].get(label)
            cells += [mean(row[c]) if row else "not run" for c in MAIN]
            cells += share_cells(content, label, shared[part])
        cells += [column[label] for column in (more or {}).values()]
        lines.append(table_row([named[label], *cells]))
    return "\n".join(lines)


def _best_first(labels: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return labels by Self in the first part that has them."""

    def place(label: str) -> tuple[int, float]:
        number = next(n for n, of_part in enumerate(rows) if label in of_part)
        return number, -rows[number][label]["Self"]["mean"]

    return sorted(labels, key=place)
