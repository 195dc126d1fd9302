"""Draw the figures of a section, each at two widths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmosaic.experiments.statistics import Interval, interval
from fedmosaic.reporting.adaptation import STARTS
from fedmosaic.reporting.html.axes import (
    NAME_LENGTH,
    draw_curve,
    draw_point,
    is_narrow,
    limits,
    make_axes,
    name_points,
)
from fedmosaic.reporting.html.drawing import plain
from fedmosaic.reporting.html.palette import SOFT, PlotStyle
from fedmosaic.reporting.html.sections import Section
from fedmosaic.reporting.measures import opening

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Styles = Mapping[str, PlotStyle]
Estimates = Mapping[str, Mapping[str, Interval]]  # by label and column of COLUMNS
COLUMNS = ("Self", "Others")
MOST_NAMES = 8  # the most labels that are written beside their points
BARS = "bars are 95 % t-intervals, cut at the edge of the figure"
COSTS = "costs"


@dataclass(frozen=True)
class ReportFigure:
    """Describe a figure of a section.

    Attributes:
        name: its file name, without the ending.
        title: its heading.
        text: what it shows and how to read it.
        draw: draws it at a width in inches.
        named: the labels are written in the figure, so that it needs no legend.
    """

    name: str
    title: str
    text: str
    draw: Callable[[float], Figure]
    named: bool = False


def report_figures(section: Section, styles: Styles) -> list[ReportFigure]:
    """Return the figures that the runs of a section allow.

    A figure that compares labels needs at least two of them.
    """
    figures = [*_comparison_figures(section, styles), *_curve_figures(section, styles)]
    if len(section.runs) > 1 and any(section.megabytes(label) for label in section.runs):
        figures.append(
            ReportFigure(
                COSTS,
                "Cost",
                "Bytes sent and operations computed in a run, all clients together, against the "
                f"{section.measure} after the last round. Bars are 95 % t-intervals.",
                lambda width: draw_costs(section, styles, width),
            )
        )
    return figures


def _comparison_figures(section: Section, styles: Styles) -> list[ReportFigure]:
    estimates = _estimates(section)
    found = []
    if len(estimates) > 1:
        found.append(
            ReportFigure(
                "self-others",
                "Self against Others",
                f"Means over seeds; {BARS}. Up: better on a client's own tasks. "
                "Right: better on the other clients' tasks.",
                lambda width: draw_scatter(estimates, section.measure, styles, width),
                len(estimates) <= MOST_NAMES,
            )
        )
    if len(estimates) > MOST_NAMES:
        found.append(
            ReportFigure(
                "ranking",
                "Ranking",
                f"The algorithms in the order of Self; {BARS}. The line is local training.",
                lambda width: draw_ranking(
                    estimates, section.measure, section.reference, styles, width
                ),
                True,
            )
        )
    return found


def _curve_figures(section: Section, styles: Styles) -> list[ReportFigure]:
    found = []
    several = len(section.seeds) > 1
    bands = " Means over seeds; bands are 95 % t-intervals." if several else ""
    if any(len(section.curve(label, column)) > 1 for label in section.runs for column in COLUMNS):
        found.append(
            ReportFigure(
                "rounds",
                f"{opening(section.measure)} over rounds",
                f"{opening(section.measure)} after each evaluated round.{bands}",
                lambda width: draw_rounds(section, styles, width),
            )
        )
    if any(section.adaptation(label) for label in section.runs):
        found.append(
            ReportFigure(
                "adaptation",
                "Adaptation to new tasks",
                f"{opening(section.adaptation_measure)} on tasks that no client trained on, by "
                f"local steps; mean over clients and tasks.{bands} Clients start with their own "
                "adapter; where it was measured, also with what they would receive next and with "
                "an untrained adapter.",
                lambda width: draw_adaptation(section, styles, width),
            )
        )
    return found


def _axis(column: str, measure: str) -> str:
    return {
        "Self": f"Self: {measure} on own tasks, %",
        "Others": f"Others: {measure} on the others' tasks, %",
    }[column]


def draw_scatter(estimates: Estimates, measure: str, styles: Styles, width: float) -> Figure:
    """Draw Self against Others, one named point with error bars for each label."""
    figure, (axes,) = make_axes(width, 0.9 * width if is_narrow(width) else 0.55 * width, 1)
    for label, found in estimates.items():
        draw_point(axes, styles[label], found["Others"], found["Self"])
    axes.set_xlabel(_axis("Others", measure))
    axes.set_ylabel(_axis("Self", measure))
    axes.set_xlim(*limits([found["Others"] for found in estimates.values()]))
    axes.set_ylim(*limits([found["Self"] for found in estimates.values()]))
    if len(estimates) <= MOST_NAMES:
        places = {
            label: (found["Others"].mean, found["Self"].mean) for label, found in estimates.items()
        }
        name_points(figure, axes, places)
    return figure


def draw_ranking(
    estimates: Estimates, measure: str, reference: str | None, styles: Styles, width: float
) -> Figure:
    """Draw Self and Others in two panels, one row for each label, the best on own tasks on top.

    Args:
        estimates: by label and column.
        measure: its name, for the axes.
        reference: the label that a vertical line marks; None for no line.
        styles: by label.
        width: in inches.
    """
    stacked = is_narrow(width)
    labels = sorted(estimates, key=lambda label: -estimates[label]["Self"].mean)
    height = 0.75 + 0.21 * len(labels)
    figure, panels = make_axes(width, 2 * height if stacked else height, 2, stacked)
    for axes, column in zip(panels, COLUMNS, strict=True):
        for place, label in enumerate(labels):
            draw_point(axes, styles[label], estimates[label][column], _exactly(place))
        if reference is not None and reference in estimates:
            axes.axvline(estimates[reference][column].mean, color=SOFT, linewidth=0.8, zorder=2)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        axes.set_yticks(range(len(labels)), [plain(label, NAME_LENGTH) for label in labels])
        if column == "Others" and not stacked:
            axes.tick_params(labelleft=False)
        axes.grid(axis="y", visible=False)
        axes.set_xlim(*limits([found[column] for found in estimates.values()]))
        axes.set_xlabel(_axis(column, measure))
    return figure


def draw_rounds(section: Section, styles: Styles, width: float) -> Figure:
    """Draw Self and Others over rounds in two panels, a line with a band for each label."""
    from matplotlib.ticker import MaxNLocator

    measure = section.measure
    stacked = is_narrow(width)
    figure, panels = make_axes(width, 1.5 * width if stacked else 0.42 * width, 2, stacked)
    for axes, column in zip(panels, COLUMNS, strict=True):
        for label in section.runs:
            curve = section.curve(label, column)
            draw_curve(axes, styles[label], {number + 1: p for number, p in curve.items()})
        axes.set_title(_axis(column, measure), loc="left")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("round")
    return figure


def draw_adaptation(section: Section, styles: Styles, width: float) -> Figure:
    """Draw scores on new tasks, a panel for each measured start, all on the same scale."""
    measured = {
        kind: {label: section.adaptation(label, kind) for label in section.runs} for kind in STARTS
    }
    starts = [kind for kind, curves in measured.items() if any(curves.values())]
    stacked = is_narrow(width)
    height = width * (0.75 * len(starts) if stacked else 0.5 if len(starts) == 1 else 0.42)
    figure, panels = make_axes(width, height, len(starts), stacked)
    for axes, kind in zip(panels, starts, strict=True):
        for label, curve in measured[kind].items():
            draw_curve(axes, styles[label], curve)
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
    panels[0].set_ylabel(f"{section.adaptation_measure} on it, %")
    return figure


def draw_costs(section: Section, styles: Styles, width: float) -> Figure:
    """Draw Self and Others (rows) against bytes and operations (columns)."""
    counted = [label for label in section.runs if section.teraflops(label) is not None]
    height = (1.25 if is_narrow(width) else 0.62) * width
    figure, panels = make_axes(width, height, 4 if counted else 2, grid=True)
    across = 2 if counted else 1
    for index, axes in enumerate(panels):
        column = COLUMNS[index // across]
        flops = index % across == 1
        costs: dict[str, float] = {}
        for label in counted if flops else section.runs:
            if values := list(section.values(label, column).values()):
                cost = section.teraflops(label) if flops else section.megabytes(label)
                costs[label] = cost or 0.0
                draw_point(axes, styles[label], _exactly(costs[label]), interval(values))
        axes.margins(0.1)
        if most := max(costs.values(), default=0.0):
            axes.set_xlim(-0.06 * most, 1.08 * most)
        if index % across == 0:
            axes.set_ylabel(f"{column}, %")
        if index >= len(panels) - across:
            axes.set_xlabel("TFLOP per run" if flops else "MB per run, both ways")
    return figure


def _estimates(section: Section) -> dict[str, dict[str, Interval]]:
    """Return the means of all labels that have both Self and Others."""
    values = {
        label: {column: section.values(label, column) for column in COLUMNS}
        for label in section.runs
    }
    return {
        label: {column: interval(list(found.values())) for column, found in both.items()}
        for label, both in values.items()
        if all(both.values())
    }


def _exactly(value: float) -> Interval:
    return interval([value])
