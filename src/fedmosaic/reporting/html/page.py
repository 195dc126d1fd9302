"""Make the page of a report: one HTML file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fedmosaic import __version__
from fedmosaic.experiments.statistics import Interval
from fedmosaic.reporting.comparison import difference, mean
from fedmosaic.reporting.html.axes import NARROW, WIDE
from fedmosaic.reporting.html.drawing import inline, svg
from fedmosaic.reporting.html.figures import COSTS, report_figures
from fedmosaic.reporting.html.matrices import gate_matrix, relevance_matrix, task_matrix
from fedmosaic.reporting.html.matrix import Matrix
from fedmosaic.reporting.html.palette import MARK_PATHS, PlotStyle, plot_styles
from fedmosaic.reporting.html.peers import (
    FavouredPeers,
    RelevanceControl,
    favoured_peers,
    relevance_controls,
)
from fedmosaic.reporting.html.sections import Section
from fedmosaic.reporting.html.tables import ReportTable, cost_table
from fedmosaic.reporting.html.verdict import Verdict, headline, verdict_on
from fedmosaic.reporting.html.wording import points
from fedmosaic.reporting.measures import opening
from fedmosaic.reporting.placement import HEADINGS, placement_rows, shared_lines

MAIN = ("Self", "Others")


@dataclass(frozen=True)
class PageFigure:
    """Hold a figure at both widths, as markup.

    Attributes:
        title: its heading.
        text: its caption.
        narrow: the figure for a phone.
        wide: the figure for a desktop.
        named: the labels are written in the figure, so that it needs no legend.
    """

    title: str
    text: str
    narrow: Markup
    wide: Markup
    named: bool


@dataclass(frozen=True)
class PageSection:
    """Hold everything that the template shows of a section.

    Attributes:
        anchor: identifies the section on the page.
        section: the runs and their statistics.
        headline: the result in one sentence.
        verdicts: one for each measured column of :data:`MAIN`.
        peers: the favoured peers; None if no label reports relevance.
        controls: relevance weights against controls.
        styles: by label.
        figures: all figures but that of the costs.
        cost_figure: the figure of the costs; None with a single label.
        matrices: by name.
        left_out: a sentence for each matrix that is too large for a page.
        costs: the table of the costs.
        versions: versions by package, as the runs recorded them.
    """

    anchor: str
    section: Section
    headline: str
    verdicts: Sequence[Verdict]
    peers: FavouredPeers | None
    controls: Sequence[RelevanceControl]
    styles: Mapping[str, PlotStyle]
    figures: Sequence[PageFigure]
    cost_figure: PageFigure | None
    matrices: Mapping[str, Matrix]
    left_out: Sequence[str]
    costs: ReportTable
    versions: Mapping[str, Sequence[str]]


def page(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """Return the HTML of a report; the same sections give the same text.

    Args:
        sections: the sections of the page.
        notes: sentences on what was left out.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "share": _share,
        "number": _number,
        "difference": _difference,
        "direction": _direction,
        "data": data,
        "points": points,
        "opening": opening,
        "unbroken": _unbroken,
        "placement_rows": placement_rows,
        "shared_lines": shared_lines,
    }
    here = files(__package__)
    template = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        views=[_page_section(section, f"s{index}") for index, section in enumerate(sections)],
        notes=[*notes, *(note for section in sections for note in section.notes)],
        version=__version__,
        style=Markup(here.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(here.joinpath("page.js").read_text(encoding="utf-8")),
        mark_paths=MARK_PATHS,
        placement_heads=HEADINGS,
    )


def _page_section(section: Section, anchor: str) -> PageSection:
    styles = plot_styles(list(section.runs))
    verdicts = [found for column in MAIN if (found := verdict_on(section, column))]
    labels = sorted(section.runs, key=lambda label: label != "fedmosaic")
    peers = next((peers for label in labels if (peers := favoured_peers(section, label))), None)
    figures = {
        spec.name: PageFigure(
            spec.title,
            spec.text,
            Markup(inline(svg(spec.draw(NARROW)), f"{anchor}-{spec.name}-narrow-")),
            Markup(inline(svg(spec.draw(WIDE)), f"{anchor}-{spec.name}-wide-")),
            spec.named,
        )
        for spec in report_figures(section, styles)
    }
    drawn = [relevance_matrix(section), task_matrix(section), gate_matrix(section)]
    matrices = {matrix.name: matrix for matrix in drawn if matrix}
    return PageSection(
        anchor,
        section,
        headline(verdicts, len(section.seeds)),
        verdicts,
        peers,
        relevance_controls(section),
        styles,
        [figure for name, figure in figures.items() if name != COSTS],
        figures.get(COSTS),
        matrices,
        left_out(section, matrices),
        cost_table(section),
        _versions(section),
    )


def left_out(section: Section, shown: Mapping[str, Matrix]) -> list[str]:
    """Say which matrices of a section are too large for a page, and where their figures are.

    Args:
        section: the runs.
        shown: the matrices on the page, by name.
    """
    runs = [run for runs in section.runs.values() for run in runs.values()]
    found = []
    if "relevance" not in shown and any(run.relevance for run in runs):
        found.append(
            "There is no picture of the relevance weights: of so many clients, metrics.jsonl has "
            "the largest weights of each."
        )
    if "tasks" not in shown and any(
        client["tasks"] for run in runs for client in run.summary["clients"].values()
    ):
        found.append(
            "There is no table of each client on each task: it would be too large for a page. The "
            "scores are in summary.json."
        )
    return found


def _versions(section: Section) -> dict[str, list[str]]:
    versions: dict[str, list[str]] = {}
    for runs in section.runs.values():
        for run in runs.values():
            for package, number in run.settings.versions.items():
                if number not in versions.setdefault(package, []):
                    versions[package].append(number)
    return versions


def data(content: Any) -> Markup:
    """Return JSON for a script element, in which nothing can end that element."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _unbroken(text: str) -> str:
    """Keep a number on one line with its interval and its unit."""
    return text.replace(" ± ", "\u00a0±\u00a0").replace(" %", "\u00a0%")


def _share(value: int | None, scale: int) -> int:
    """Return how strong the colour of a cell is, in percent."""
    return 0 if value is None else min(100, round(100 * abs(value) / scale))


def _number(figure: Any) -> str:
    if isinstance(figure, Interval):
        return f"{figure.mean:.1f}" + ("" if figure.half is None else f" ± {figure.half:.1f}")
    return mean(figure)


def _difference(figure: Mapping[str, Any]) -> str:
    return difference(figure).replace("-", "−")


def _direction(gap: Mapping[str, Any]) -> str:
    """Return ``up`` or ``down`` for a significant difference, else an empty text."""
    if gap["ci95"] is None or abs(gap["mean"]) <= gap["ci95"]:
        return ""
    return "up" if gap["mean"] > 0 else "down"
