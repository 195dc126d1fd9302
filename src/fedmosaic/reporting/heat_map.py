"""Draw how similar the layers of a model are to those of the pivot."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmosaic.alignment.store import Alignment
from fedmosaic.files import write_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK, ACCENT = "#20262e", "#ff5a36"


def write_heat_map(alignment: Alignment, path: Path) -> None:
    """Write the linear CKA between all layers of the model and of the pivot as a PNG.

    The layers that end a block are marked: those chosen by relative depth, and those of the best
    monotone matching.

    Args:
        alignment: an alignment whose report holds ``cka``.
        path: the file to write.

    Raises:
        KeyError: the report holds no ``cka``.
    """
    cka = alignment.report["cka"]
    rows, columns = len(cka["matrix"]), len(cka["matrix"][0])
    scale = 5.0 / max(rows, columns)  # inches a layer
    figure, axes = _axes(scale * columns, scale * rows)
    image = axes.imshow(
        cka["matrix"], origin="lower", cmap="viridis", vmin=0.0, vmax=1.0, aspect="equal"
    )
    _mark_block_ends(axes, cka["blocks"], min(170.0, 900.0 * scale))
    axes.set_xlabel(f"layer of the pivot, {alignment.identity.pivot}")
    axes.set_ylabel(f"layer of {alignment.identity.model}")
    axes.set_title("Similarity of layers", loc="left", fontweight="bold")
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.set_label(f"linear CKA over {cka['tokens']:,} tokens")
    bar.outline.set_visible(False)
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    write_atomic(path, stream.getvalue())


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure whose axes have about this size in inches, without frame and tick marks."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(
        figsize=(max(width, 2.6) + 2.0, max(height, 2.6) + 1.7), dpi=160, layout="constrained"
    )
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True, nbins=12))
    for side in axes.spines.values():
        side.set_visible(False)
    axes.tick_params(length=0)
    return figure, axes


def _mark_block_ends(axes: Axes, blocks: Sequence[Mapping[str, Any]], size: float) -> None:
    """Mark both choices of block ends; ``size`` is the area of the larger mark in points²."""
    from matplotlib.patheffects import withStroke

    pivot_layers = [block["pivot_layer"] for block in blocks]
    axes.scatter(
        pivot_layers,
        [block["rule_layer"] for block in blocks],
        s=size,
        facecolors="none",
        edgecolors="white",
        linewidths=1.8,
        path_effects=[withStroke(linewidth=3.6, foreground=DARK)],
        label="block ends by relative depth",
    )
    axes.scatter(
        pivot_layers,
        [block["best_layer"] for block in blocks],
        s=0.3 * size,
        marker="D",
        color=ACCENT,
        edgecolors=DARK,
        linewidths=0.8,
        label="best monotone matching",
    )
