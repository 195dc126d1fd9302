"""Make the page of the evidence: verdicts and all tables of every part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.accuracy.evidence_claims import CLAIMS, OURS
from benchmarks.accuracy.evidence_content import MAIN, judged_columns, labels_of, other_views
from benchmarks.accuracy.evidence_parts import PARTS
from benchmarks.accuracy.evidence_rows import ROUTED, ZERO_SHOT
from benchmarks.common.claims import claims_table
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
# The claims of the paper and of the extensions

Made by `python -m benchmarks.accuracy.evidence PART` for each part and `python -m \
benchmarks.accuracy.evidence_table --publish`, whose docstrings say what is run and how claims are \
judged. Accuracy in percent: mean ± half-width of the 95 % t-interval over five seeds. Differences \
are paired by seed. Intervals are not corrected for the number of comparisons. MB are those of a \
whole run, all clients together."""
MINIATURE = """\
Miniature models and rendered tasks. The models of seeds 3 and 4 were pretrained a second time, \
from another seed. This world stands in for DRAKE in structure; it is not DRAKE."""
OF_LANGUAGE = """\
SmolLM2 135M and Gemma 3 270M on text tasks (`reference/hetero`)."""
HEADROOM = """\
Headroom: the share, in percent, of what `pooled` gains over local training, where that is known \
to half of itself or better; `pooled` trains an adapter of each architecture on the data of all \
clients."""
ROUTING = """\
The same runs with routing: an input like the client's own training prompts goes to the first \
view, any other to what the client received. Gains are over the same run without routing."""


def page(parts: Mapping[str, Any]) -> str:
    """Return the whole result in Markdown."""
    lines = [INTRODUCTION]
    for part, content in parts.items():
        about = MINIATURE if PARTS[part].bundled else OF_LANGUAGE
        lines += ["", f"## {part.capitalize()}", "", about]
        if left_out := content.get("left out"):
            lines += ["", f"Not finished yet, and left out: {', '.join(left_out)}."]
        for title, text in [*_claims(content), *_tables(content)]:
            lines += ["", title, "", text]
    return "\n".join(lines) + "\n"


def _claims(content: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the verdicts of a part, by what the claims are about."""
    found = []
    columns = judged_columns(content["rows"])
    for about, claims in CLAIMS.items():
        texts = {claim.text for claim in claims}
        if judged := [line for line in content["claims"] if line["claim"] in texts]:
            found.append((f"Claims. {about}:", claims_table(judged, columns)))
    return found


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
    if experts := labels_of(rows, "experts"):
        title = "Experts: each input goes to the client whose prompts it resembles:"
        found.append((title, main_table(content, experts)))
    if changed:
        title = f"{OURS} with one thing changed:"
        found.append((title, main_table(content, [OURS, *changed] if OURS in rows else changed)))
    routed = [label for label, row, view in views if view == ROUTED and view not in row.controls]
    if routed:
        found.append((ROUTING, views_table(content, routed)))
    if others := [label for label, *_ in views if label not in (*routed, ZERO_SHOT)]:
        found.append(("Further views and controls:", views_table(content, others)))
    return found


def main_table(content: Mapping[str, Any], labels: Sequence[str]) -> str:
    """Return the accuracies of rows, and FedMosaic's gain over each of them."""
    rows, shares = content["rows"], SHARES if content.get("headroom") else ()
    values = values_by_seed(rows)
    gains = [f"{column}: {OURS} −" for column in MAIN]
    costs = ["seeds", "steps", "rate", "MB up / down"]
    lines = table_head("algorithm", [*COLUMNS, *shares, *gains, *costs])
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
        sent = " / ".join(f"{row['bytes'][way] / 1e6:.1f}" for way in ("up", "down"))
        cells += [str(len(row["seeds"])), str(row["steps"]), rate, sent]
        lines.append(table_row([label, *cells]))
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


def share_cells(content: Mapping[str, Any], label: str, columns: Sequence[str] = MAIN) -> list[str]:
    """Return the shares of the headroom of a row; empty cells where there is none."""
    shares = content.get("headroom", {}).get(label, {})
    return [format_interval(Interval(**shares[c])) if c in shares else "" for c in columns]


def shared_columns(content: Mapping[str, Any]) -> list[str]:
    """Return the columns in which there is headroom."""
    shares = content.get("headroom", {}).values()
    return [column for column in MAIN if any(column in row for row in shares)]
