"""Write the figures and tables of a report as files for a paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fedmosaic.experiments.variants import slug
from fedmosaic.files import write_atomic
from fedmosaic.reporting.html import tables
from fedmosaic.reporting.html.axes import WIDE, add_legend
from fedmosaic.reporting.html.drawing import png, svg
from fedmosaic.reporting.html.figures import report_figures
from fedmosaic.reporting.html.palette import plot_styles
from fedmosaic.reporting.html.sections import Section


def export(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write figures as PNG and SVG, and tables as CSV, Markdown and LaTeX.

    Several sections get a folder each. Files with other names stay.

    Args:
        sections: the sections of the report.
        folder: where to write.

    Returns:
        The files.
    """
    written = []
    for index, section in enumerate(sections, start=1):
        target = folder if len(sections) == 1 else folder / f"{index}-{slug(section.name)}"
        for name, content in _files(section):
            write_atomic(target / name, content)
            written.append(target / name)
    return written


def _files(section: Section) -> Iterator[tuple[str, bytes | str]]:
    styles = plot_styles(list(section.runs))
    for spec in report_figures(section, styles):
        figure = spec.draw(WIDE)
        if not spec.named:
            add_legend(figure, styles)
        yield f"{spec.name}.svg", svg(figure)
        yield f"{spec.name}.png", png(figure)
    costs = tables.cost_table(section)
    for name, table in (("comparison", tables.comparison_table(section)), ("costs", costs)):
        yield f"{name}.md", table.markdown()
        yield f"{name}.tex", table.latex()
    for_programs = {
        "comparison": tables.figure_table(section),
        "costs": costs,
        "rounds": tables.round_table(section),
        "relevance": tables.relevance_table(section),
        "tasks": tables.task_table(section),
        "gates": tables.gate_table(section),
    }
    for name, table in for_programs.items():
        if table.rows:
            yield f"{name}.csv", table.csv()
