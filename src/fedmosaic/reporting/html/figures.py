"""The pictures of a section, each at two widths: Self against Others, the order of many algorithms, accuracy over rounds, costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fedmosaic.experiments.statistics import Interval, interval
from fedmosaic.reporting.adaptation import STARTS
from fedmosaic.reporting.html.ink import INK, PAPER, SETTINGS, SOFT, Style, plain
from fedmosaic.reporting.html.sections import Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Styles = Mapping[str, Style]
Estimates = Mapping[str, Mapping[str, Interval]]  # by label and column of AXES
NARROW, WIDE = 3.7, 8.4
AXES = {"Self": "Self: accuracy on own tasks, %", "Others": "Others: on the others' tasks, %"}
NAMED = 8  # labels that can be written beside points
BARS = "bars are 95 % t-intervals, cut where they leave the picture"


@dataclass(frozen=True)
class Picture:
    """A figure of a section.

    Attributes:
        name: of its file. title, text: what it shows, and how to read it. draw: into a figure so many inches wide.
        named: the labels are written in it, and it needs no legend.
    """

    name: str
    title: str
    text: str
    draw: Callable[[float], Figure]
    named: bool = False


def pictures(section: Section, styles: Styles) -> list[Picture]:
    """Those that the data allow."""
    found = []
    estimates = _estimates(section)
    if estimates:
        text = f"Means over seeds; {BARS}. Up: better on a client's own tasks. Right: better on the tasks of others."
        named = len(estimates) <= NAMED
        found.append(
            Picture(
                "self-others",
                "Self against Others",
                text,
                lambda width: scatter(estimates, styles, width),
                named,
            )
        )
    if len(estimates) > NAMED:
        text = f"The same, best on a client's own tasks first; {BARS}. The line is local training."
        found.append(
            Picture(
                "ranking",
                "One below the other",
                text,
                lambda width: ranking(estimates, section.reference, styles, width),
                True,
            )
        )
    if any(len(section.curve(label, column)) > 1 for label in section.runs for column in AXES):
        text = "Means over seeds after each evaluated round; bands are 95 % t-intervals."
        found.append(
            Picture(
                "rounds", "Accuracy over rounds", text, lambda width: curves(section, styles, width)
            )
        )
    if any(section.adaptation(label) for label in section.runs):
        text = (
            "Accuracy on tasks that no client trained on, after so many local steps; means over clients and tasks, bands are 95 % "
            "t-intervals over seeds. Clients begin where the run left them; or, if that was measured, with what the server would send "
            "next in place of their own adapters, or with untrained ones."
        )
        found.append(
            Picture(
                "adaptation",
                "Fast adaptation",
                text,
                lambda width: adaptation(section, styles, width),
            )
        )
    if any(section.megabytes(label) for label in section.runs):
        text = "What a run sends and computes, all clients together, against where it ends. Bars are 95 % t-intervals."
        found.append(
            Picture("costs", "What it costs", text, lambda width: costs(section, styles, width))
        )
    return found


def scatter(estimates: Estimates, styles: Styles, width: float) -> Figure:
    """A point with error bars for each label, its name beside it."""
    figure, (axes,) = _figure(width, 0.9 * width if width < 5 else 0.55 * width, 1)
    for label, found in estimates.items():
        _mark(axes, styles[label], found["Others"], found["Self"])
    axes.set_xlabel(AXES["Others"])
    axes.set_ylabel(AXES["Self"])
    axes.set_xlim(*_view([found["Others"] for found in estimates.values()]))
    axes.set_ylim(*_view([found["Self"] for found in estimates.values()]))
    if len(estimates) <= NAMED:
        places = {
            label: (found["Others"].mean, found["Self"].mean) for label, found in estimates.items()
        }
        _names(figure, axes, places, styles)
    return figure


def ranking(estimates: Estimates, reference: str | None, styles: Styles, width: float) -> Figure:
    """Two panels, Self and Others, a line for each label in the order of Self; ``reference`` has a line across all."""
    stacked = width < 5
    labels = sorted(estimates, key=lambda label: -estimates[label]["Self"].mean)
    height = 0.75 + 0.21 * len(labels)
    figure, panels = _figure(width, 2 * height if stacked else height, 2, stacked)
    for axes, column in zip(panels, AXES, strict=True):
        for place, label in enumerate(labels):
            _mark(axes, styles[label], estimates[label][column], _exactly(place))
        if reference is not None and reference in estimates:
            axes.axvline(estimates[reference][column].mean, color=SOFT, linewidth=0.8, zorder=2)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_yticks(range(len(labels)), [plain(label, 28) for label in labels])
        if column == "Others" and not stacked:
            axes.tick_params(labelleft=False)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(*_view([found[column] for found in estimates.values()]))
        axes.set_xlabel(AXES[column])
    return figure


def curves(section: Section, styles: Styles, width: float) -> Figure:
    """Two panels, Self and Others, a line with a band for each label."""
    from matplotlib.ticker import MaxNLocator

    stacked = width < 5
    figure, panels = _figure(width, 1.5 * width if stacked else 0.42 * width, 2, stacked)
    for axes, column in zip(panels, AXES, strict=True):
        for label in section.runs:
            _line(
                axes,
                styles[label],
                {number + 1: point for number, point in section.curve(label, column).items()},
            )
        axes.set_title(AXES[column], loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round")
    return figure


def adaptation(section: Section, styles: Styles, width: float) -> Figure:
    """A panel for each start that was measured, on the same scale, a line with a band for each label."""
    measured = {
        kind: {label: section.adaptation(label, kind) for label in section.runs} for kind in STARTS
    }
    starts = [kind for kind, curves in measured.items() if any(curves.values())]
    stacked = width < 5
    height = width * (0.75 * len(starts) if stacked else 0.5 if len(starts) == 1 else 0.42)
    figure, panels = _figure(width, height, len(starts), stacked)
    for axes, kind in zip(panels, starts, strict=True):
        for label, curve in measured[kind].items():
            _line(axes, styles[label], curve)
        if len(starts) > 1:
            axes.set_title(f"from {STARTS[kind]}", loc="left")
        axes.set_xlabel("local steps on a new task")
    low, high = (
        min(axes.get_ylim()[0] for axes in panels),
        max(axes.get_ylim()[1] for axes in panels),
    )
    for number, axes in enumerate(panels):
        axes.set_ylim(low, high)
        axes.tick_params(labelleft=stacked or not number)
    panels[0].set_ylabel("accuracy on it, %")
    return figure


def costs(section: Section, styles: Styles, width: float) -> Figure:
    """Self and Others (rows) against bytes and operations (columns)."""
    known = [label for label in section.runs if section.teraflops(label) is not None]
    figure, panels = _figure(
        width, (1.25 if width < 5 else 0.62) * width, 4 if known else 2, grid=True
    )
    across = 2 if known else 1
    for index, axes in enumerate(panels):
        column = list(AXES)[index // across]
        flops = index % across == 1
        places = {}
        for label in known if flops else section.runs:
            values = list(section.values(label, column).values())
            if values:
                place = section.teraflops(label) if flops else section.megabytes(label)
                places[label] = (_exactly(place or 0.0), interval(values))
        for label, (place, value) in places.items():
            _mark(axes, styles[label], place, value)
        axes.margins(0.1)
        most = max((place.mean for place, _ in places.values()), default=0.0)
        if most:
            axes.set_xlim(-0.06 * most, 1.08 * most)
        if index % across == 0:
            axes.set_ylabel(f"{column}, %")
        if index >= len(panels) - across:
            axes.set_xlabel("TFLOP a run" if flops else "MB a run, both ways")
    return figure


def keyed(figure: Figure, styles: Styles) -> Figure:
    """The figure with a legend below it; on the page that is text."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=plain(label), **_marked(style)) for label, style in styles.items()
    ]
    columns = min(len(handles), max(2, int(0.75 * figure.get_figwidth())))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False)
    return figure


def _figure(
    width: float, height: float, panels: int, stacked: bool = False, grid: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    small = width < 5
    sizes = {"font.size": 8.0 if small else 9.0, "axes.titlesize": 8.5 if small else 10.0}
    with rc_context({**SETTINGS, **sizes}):
        figure = Figure(figsize=(width, height), layout="constrained")
        shape = (2, panels // 2) if grid else ((panels, 1) if stacked else (1, panels))
        axes = figure.subplots(*shape, squeeze=False)
        return figure, list(axes.flat)


def _estimates(section: Section) -> dict[str, dict[str, Interval]]:
    """Of all labels that have both Self and Others."""
    values = {
        label: {column: section.values(label, column) for column in AXES} for label in section.runs
    }
    return {
        label: {column: interval(list(found.values())) for column, found in both.items()}
        for label, both in values.items()
        if all(both.values())
    }


def _view(found: Sequence[Interval]) -> tuple[float, float]:
    """The part of an axis to show: all means, and of their bars as much as leaves the means apart."""
    low, high = min(each.mean for each in found), max(each.mean for each in found)
    most = 0.75 * (high - low) or 1.0
    below = max(max(0.0, low - each.mean + (each.half or 0.0)) for each in found)
    above = max(max(0.0, each.mean + (each.half or 0.0) - high) for each in found)
    rim = 0.08 * (high - low + min(most, below) + min(most, above)) or 0.1
    return low - min(most, below) - rim, high + min(most, above) + rim


def _exactly(value: float) -> Any:
    return interval([value])


def _mark(axes: Axes, style: Style, x: Any, y: Any) -> None:
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
    axes.plot([x.mean], [y.mean], **_marked(style), zorder=5)


def _line(axes: Axes, style: Style, curve: Mapping[int, Interval]) -> None:
    """Means and a band."""
    means = [point.mean for point in curve.values()]
    half = [point.half or 0.0 for point in curve.values()]
    line: dict[str, Any] = {"color": style.colour, "marker": style.mark, "linestyle": style.dash}
    axes.plot(list(curve), means, **line, markersize=4, linewidth=1.4, markeredgewidth=0)
    if any(half):
        low, high = zip(*((m - h, m + h) for m, h in zip(means, half, strict=True)), strict=True)
        axes.fill_between(list(curve), low, high, color=style.colour, alpha=0.13, linewidth=0)


def _marked(style: Style) -> dict[str, Any]:
    mark = {"color": style.colour, "marker": style.mark, "linestyle": "none"}
    return {**mark, "markersize": 7.5, "markeredgecolor": PAPER, "markeredgewidth": 0.5}


def _names(
    figure: Figure, axes: Axes, points: Mapping[str, tuple[float, float]], styles: Styles
) -> None:
    """Each label beside its point; where points are close, moved apart upwards and tied to them by a thin line."""
    size = 7.5 if figure.get_figwidth() < 5 else 9.0
    figure.draw_without_rendering()
    spots = {label: axes.transData.transform(point) for label, point in points.items()}
    gap = 1.5 * size * figure.dpi / 72
    middle = axes.get_window_extent().x0 + 0.6 * axes.get_window_extent().width
    last: dict[bool, float] = {}
    for label in sorted(spots, key=lambda name: (spots[name][1], name)):
        x, y = spots[label]
        left = bool(x > middle)
        height = max(y + 0.5 * gap, last.get(left, y) + gap)
        last[left] = height
        shift = (-9 if left else 9, (height - y) * 72 / figure.dpi)
        axes.annotate(
            plain(label, 28),
            points[label],
            xytext=shift,
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontsize=size,
            color=INK,
            zorder=4,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
            arrowprops={"arrowstyle": "-", "color": SOFT, "linewidth": 0.6}
            if shift[1] > 1.2 * size
            else None,
        )
