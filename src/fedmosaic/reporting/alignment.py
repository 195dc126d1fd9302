"""Print how well A and B were aligned, before and after."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from fedmosaic.alignment.store import Alignment
from fedmosaic.reporting.terminal import Column, TextTable, print_parts

MEASURES = {
    "residual": "residual of A",
    "output_correlation": "B on outputs",
    "gradient_correlation": "B on gradients",
}
LEGEND = (
    "before → after, on held-out examples. residual of A: relative error of A's fit (0 is perfect, "
    "1 is no better than zeros). B: correlation of what B sees in the two models, coordinate by "
    "coordinate (1 is perfect, 0 unrelated)."
)
Parts = list[TextTable | Text | str]


def print_alignments(alignments: Sequence[Alignment], console: Console | None = None) -> None:
    """Print the tables of each alignment.

    Args:
        alignments: one alignment for each model.
        console: where to print; by default standard output.
    """
    for alignment in alignments:
        refined = "refinement" in alignment.report
        parts = _refined_parts(alignment) if refined else _fitted_parts(alignment)
        print_parts(["", *parts, ""], console)


def _fitted_parts(alignment: Alignment) -> Parts:
    """Show the measures of each adapter site before and after, then the CKA of the block ends."""
    identity, report = alignment.identity, alignment.report
    table = TextTable(
        [
            Column("block"),
            Column("module"),
            Column("layer ↔ pivot's layer", style="dim"),
            *(Column(title, right=True) for title in MEASURES.values()),
        ],
        title=f"{identity.model} → {identity.pivot}",
    )
    sites: Sequence[Mapping[str, Any]] = report.get("sites", ())
    for index, site in enumerate(sites):
        first = index == 0 or sites[index - 1]["block"] != site["block"]
        measures = [_change(site.get(f"{m}_before"), site.get(f"{m}_after")) for m in MEASURES]
        place = (str(site["block"]), site["module"], _layers(site))
        table.add(*place, *measures, spaced=first and index > 0)
    means = [_change(_mean(sites, f"{m}_before"), _mean(sites, f"{m}_after")) for m in MEASURES]
    table.add("mean", "", "", *means, style="bold", spaced=True)
    parts: Parts = [table, "", Text(LEGEND, "dim")]
    return parts + (_cka_parts(report["cka"]) if report.get("cka") else [])


def _refined_parts(alignment: Alignment) -> Parts:
    """Show the accuracy on held-out pseudo-tasks by the origin of P, and the agreement by site."""
    identity, refinement = alignment.identity, alignment.report["refinement"]
    table = TextTable(
        [Column("P learned in"), Column("right choices, random A and B → refined", right=True)],
        title=f"{identity.model}, refined",
    )
    origins = {f"{identity.model} (own)": refinement["own"], **refinement["from"]}
    for name, (before, after) in origins.items():
        table.add(name, f"{100 * before:.1f} % → {100 * after:.1f} %")
    sites = TextTable(
        [
            Column("block"),
            Column("module"),
            Column("layer ↔ pivot's layer"),
            Column("agreement of effects", right=True),
        ]
    )
    for site in alignment.report["sites"]:
        change = _change(site["agreement_before"], site["agreement_after"])
        sites.add(str(site["block"]), site["module"], _layers(site), change)
    note = (
        "right choices: on held-out pseudo-tasks of three options. agreement of effects: cosine of "
        "what P does in any two of the models, with random A and B → refined. condition number of "
        f"A and B: {refinement['condition']:.1f} or less."
    )
    return [table, "", sites, "", Text(note, "dim")]


def _cka_parts(cka: Mapping[str, Any]) -> Parts:
    """Compare the block ends by relative depth with the best monotone matching of layers."""
    headings = ("layers by depth", "CKA", "layers by best matching", "CKA", "CKA lost by depth")
    table = TextTable([Column("block"), *(Column(name, right=True) for name in headings)])
    for block in cka["blocks"]:
        pivot = block["pivot_layer"]
        table.add(
            str(block["block"]),
            f"{block['rule_layer']} ↔ {pivot}",
            f"{block['rule_cka']:.3f}",
            f"{block['best_layer']} ↔ {pivot}",
            f"{block['best_cka']:.3f}",
            f"{block['lost']:+.3f}",
        )
    note = f"CKA over {cka['tokens']:,} tokens of the public set"
    if cka["captured"] < 0.9995:
        note += (
            f", in the directions that hold {100 * cka['captured']:.1f} % of the variance or more"
        )
    return ["", table, "", Text(note, "dim")]


def _layers(site: Mapping[str, Any]) -> str:
    return f"{site['layer']} ↔ {site['pivot_layer']}"


def _change(before: float | None, after: float | None) -> str:
    return f"{_number(before)} → {_number(after)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}"


def _mean(sites: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [site[name] for site in sites if site.get(name) is not None]
    return sum(values) / len(values) if values else None
