"""What an alignment bought: a table of before and after for a terminal, and a heat map of CKA between all layers."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fedmosaic.alignment.store import Alignment
from fedmosaic.files import write_atomic

_MEASURES = (
    ("residual", "residual of A"),
    ("output_correlation", "B on outputs"),
    ("gradient_correlation", "B on gradients"),
)
_DARK, _ACCENT = "#20262e", "#ff5a36"


class AlignProgress:
    """A progress bar for an alignment; call it with what is being done, how much of it is done, and of how much."""

    def __init__(self, shown: bool = True) -> None:
        self.bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TimeRemainingColumn(),
            disable=not shown,
        )
        self.tasks: dict[str, TaskID] = {}

    def __enter__(self) -> AlignProgress:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bars.add_task(what, total=total)
        self.bars.update(self.tasks[what], completed=done, total=total)


def alignment_table(alignment: Alignment) -> RenderableType:
    """One line a site and one for their mean, each measure before and after; then the CKA of each block's layers.

    The residual of A is relative (0 is perfect, 1 no better than nothing); the others are correlations of what B sees in the two
    models, coordinate by coordinate (1 is perfect, 0 unrelated), on examples that were held out.
    """
    identity, report = alignment.identity, alignment.report
    if "refinement" in report:
        return _refinement_table(alignment)
    table = Table(
        title=f"{identity.model} → {identity.pivot}",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    for name in ("block", "module", "layers"):
        table.add_column(name, style="dim" if name == "layers" else None)
    for _, title in _MEASURES:
        table.add_column(title, justify="right")
    sites: Sequence[Mapping[str, Any]] = report.get("sites", ())
    for index, site in enumerate(sites):
        new = index == 0 or sites[index - 1]["block"] != site["block"]
        if new and index:
            table.add_section()
        layers = f"{site['layer']} ↔ {site['pivot_layer']}"
        cells = [
            _change(site.get(f"{name}_before"), site.get(f"{name}_after")) for name, _ in _MEASURES
        ]
        table.add_row(
            str(site["block"]) if new else "", site["module"], layers if new else "", *cells
        )
    table.add_section()
    means = [
        _change(_mean(sites, f"{name}_before"), _mean(sites, f"{name}_after"))
        for name, _ in _MEASURES
    ]
    table.add_row("mean", "", "", *means, style="bold")
    return Group(table, *_cka_lines(report.get("cka")))


def _refinement_table(alignment: Alignment) -> RenderableType:
    """Held-out pseudo-tasks with random A and B and with these: right choices by whose P is used, and agreement block by block."""
    identity, found = alignment.identity, alignment.report["refinement"]
    table = Table(
        title=f"{identity.model}, refined",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        title_style="bold",
    )
    table.add_column("P learned in")
    table.add_column("right choices", justify="right")
    for name, (before, after) in {f"{identity.model} (own)": found["own"], **found["from"]}.items():
        table.add_row(name, f"{100 * before:.1f} % → {100 * after:.1f} %")
    sites = Table(box=box.SIMPLE_HEAD)
    for title in ("block", "module", "layers"):
        sites.add_column(title)
    sites.add_column("agreement of effects", justify="right")
    for site in alignment.report["sites"]:
        layers = f"{site['layer']} ↔ {site['pivot_layer']}"
        change = _change(site["agreement_before"], site["agreement_after"])
        sites.add_row(str(site["block"]), site["module"], layers, change)
    note = (
        "held-out pseudo-tasks of three options, with random A and B → with these; agreement: cosine of what P does in any two "
        f"of the models; condition number of A and B {found['condition']:.1f} or less"
    )
    return Group(table, sites, Text(note, style="dim"))


def print_alignments(alignments: Sequence[Alignment], console: Console | None = None) -> None:
    """Print a table for each."""
    for alignment in alignments:
        (console or Console()).print(alignment_table(alignment))


def _cka_lines(cka: Mapping[str, Any] | None) -> list[RenderableType]:
    if not cka:
        return []
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("block")
    table.add_column("layers by depth", style="dim")
    for title in ("CKA", "best matching", "CKA", "lost by depth"):
        table.add_column(title, justify="right", style="dim" if title == "best matching" else None)
    for block in cka["blocks"]:
        pivot = block["pivot_layer"]
        table.add_row(
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
    return [table, Text(note, style="dim")]


def _change(before: float | None, after: float | None) -> str:
    return f"{_number(before)} → {_number(after)}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{round(value, 2) + 0.0:.2f}"


def _mean(sites: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [site[name] for site in sites if site.get(name) is not None]
    return sum(values) / len(values) if values else None


def write_heat_map(alignment: Alignment, path: Path) -> None:
    """Draw the CKA between all layers of the model and of the pivot as a PNG, with both choices of block ends marked.

    Raises:
        KeyError: the report holds no ``cka``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patheffects import withStroke
    from matplotlib.ticker import MaxNLocator

    cka = alignment.report["cka"]
    matrix: Sequence[Sequence[float]] = cka["matrix"]
    rows, columns = len(matrix), len(matrix[0])
    scale = 5.0 / max(rows, columns)
    figure = Figure(
        figsize=(max(scale * columns, 2.6) + 2.0, max(scale * rows, 2.6) + 1.7),
        dpi=160,
        layout="constrained",
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    drawn = axes.imshow(matrix, origin="lower", cmap="viridis", vmin=0.0, vmax=1.0, aspect="equal")
    pivots = [block["pivot_layer"] for block in cka["blocks"]]
    size = min(170.0, 900.0 * scale)
    axes.scatter(
        pivots,
        [block["rule_layer"] for block in cka["blocks"]],
        s=size,
        facecolors="none",
        edgecolors="white",
        linewidths=1.8,
        path_effects=[withStroke(linewidth=3.6, foreground=_DARK)],
        label="block ends by relative depth",
    )
    axes.scatter(
        pivots,
        [block["best_layer"] for block in cka["blocks"]],
        s=0.3 * size,
        marker="D",
        color=_ACCENT,
        edgecolors=_DARK,
        linewidths=0.8,
        label="best monotone matching",
    )
    axes.set_xlabel(f"layer of the pivot, {alignment.identity.pivot}")
    axes.set_ylabel(f"layer of {alignment.identity.model}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    bar = figure.colorbar(drawn, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(f"linear CKA over {cka['tokens']:,} tokens")
    bar.outline.set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    axes.set_title("Which layer answers to which", loc="left", fontweight="bold")
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    write_atomic(path, picture.getvalue())
