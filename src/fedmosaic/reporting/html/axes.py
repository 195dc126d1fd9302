"""Draw points, lines and names into the axes of a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fedmosaic.experiments.statistics import Interval
from fedmosaic.reporting.html.drawing import SETTINGS, plain
from fedmosaic.reporting.html.palette import BACKGROUND, SOFT, TEXT, PlotStyle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Widths of a figure in inches: on a phone, and on a desktop or in a paper.
NARROW, WIDE = 3.7, 8.4
NAME_LENGTH = 28


def is_narrow(width: float) -> bool:
    """Return whether a figure of this width in inches is drawn for a phone."""
    return width < 5


def make_axes(
    width: float, height: float, panels: int, stacked: bool = False, grid: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """Make a figure with several panels.

    Args:
        width: in inches.
        height: in inches.
        panels: the number of panels.
        stacked: put them one below the other instead of side by side.
        grid: put them in two rows.

    Returns:
        The figure and its panels.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    small = is_narrow(width)
    sizes = {"font.size": 8.0 if small else 9.0, "axes.titlesize": 8.5 if small else 10.0}
    with rc_context({**SETTINGS, **sizes}):
        figure = Figure(figsize=(width, height), layout="constrained")
        shape = (2, panels // 2) if grid else ((panels, 1) if stacked else (1, panels))
        axes = figure.subplots(*shape, squeeze=False)
        return figure, list(axes.flat)


def limits(found: Sequence[Interval]) -> tuple[float, float]:
    """Choose the limits of an axis.

    All means are visible. Intervals are cut where they would squeeze the means together.
    """
    low, high = min(each.mean for each in found), max(each.mean for each in found)
    most = 0.75 * (high - low) or 1.0
    below = max(max(0.0, low - each.mean + (each.half or 0.0)) for each in found)
    above = max(max(0.0, each.mean + (each.half or 0.0) - high) for each in found)
    rim = 0.08 * (high - low + min(most, below) + min(most, above)) or 0.1
    return low - min(most, below) - rim, high + min(most, above) + rim


def draw_point(axes: Axes, style: PlotStyle, x: Interval, y: Interval) -> None:
    """Draw a mark at the means, with error bars."""
    axes.errorbar(
        x.mean,
        y.mean,
        xerr=x.half,
        yerr=y.half,
        fmt="none",
        ecolor=style.colour,
        elinewidth=1.1,
        capsize=2.5,
        zorder=3,
    )
    axes.plot([x.mean], [y.mean], **mark_options(style), zorder=5)


def draw_curve(axes: Axes, style: PlotStyle, curve: Mapping[int, Interval]) -> None:
    """Draw means as a line and their intervals as a band."""
    means = [point.mean for point in curve.values()]
    half = [point.half or 0.0 for point in curve.values()]
    line: dict[str, Any] = {"color": style.colour, "marker": style.mark, "linestyle": style.dash}
    axes.plot(list(curve), means, **line, markersize=4, linewidth=1.4, markeredgewidth=0)
    if any(half):
        low, high = zip(*((m - h, m + h) for m, h in zip(means, half, strict=True)), strict=True)
        axes.fill_between(list(curve), low, high, color=style.colour, alpha=0.13, linewidth=0)


def mark_options(style: PlotStyle) -> dict[str, Any]:
    """Return matplotlib's options for the mark of a style."""
    mark = {"color": style.colour, "marker": style.mark, "linestyle": "none"}
    return {**mark, "markersize": 7.5, "markeredgecolor": BACKGROUND, "markeredgewidth": 0.5}


def add_legend(figure: Figure, styles: Mapping[str, PlotStyle]) -> Figure:
    """Add a legend below a figure for a paper; the page has one in text."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=plain(label), **mark_options(style)) for label, style in styles.items()
    ]
    columns = min(len(handles), max(2, int(0.75 * figure.get_figwidth())))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def name_points(figure: Figure, axes: Axes, places: Mapping[str, tuple[float, float]]) -> None:
    """Write each label beside its point.

    Names of close points are moved apart upwards and joined to their points by thin lines.
    """
    size = 7.5 if is_narrow(figure.get_figwidth()) else 9.0
    figure.draw_without_rendering()
    pixels = {label: axes.transData.transform(place) for label, place in places.items()}
    gap = 1.5 * size * figure.dpi / 72
    middle = axes.get_window_extent().x0 + 0.6 * axes.get_window_extent().width
    last: dict[bool, float] = {}
    for label in sorted(pixels, key=lambda name: (pixels[name][1], name)):
        x, y = pixels[label]
        left = bool(x > middle)
        height = max(y + 0.5 * gap, last.get(left, y) + gap)
        last[left] = height
        shift = (-9 if left else 9, (height - y) * 72 / figure.dpi)
        axes.annotate(
            plain(label, NAME_LENGTH),
            places[label],
            xytext=shift,
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=size,
            color=TEXT,
            zorder=4,
            bbox={"facecolor": BACKGROUND, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.6}
            if shift[1] > 1.2 * size
            else None,
        )
