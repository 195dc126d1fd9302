"""The figures and tables of a report as files for a paper: PNG and SVG; CSV, Markdown and LaTeX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fedmosaic.experiments.variants import slug
from fedmosaic.files import write_atomic
from fedmosaic.reporting.html import tables
from fedmosaic.reporting.html.figures import WIDE, keyed, pictures
from fedmosaic.reporting.html.ink import png, styles, svg
from fedmosaic.reporting.html.sections import Section


def export(sections: Sequence[Section], folder: Path) -> list[Path]:
    """Write all files, each section into a folder of its own if there are several; files of other names stay."""
    written = []
    for index, section in enumerate(sections, start=1):
        place = folder if len(sections) == 1 else folder / f"{index}-{slug(section.name)}"
        for name, content in _files(section):
            write_atomic(place / name, content)
            written.append(place / name)
    return written


def _files(section: Section) -> Iterator[tuple[str, bytes | str]]:
    inks = styles(list(section.runs))
    for picture in pictures(section, inks):
        drawn = picture.draw(WIDE)
        figure = drawn if picture.named else keyed(drawn, inks)
        yield f"{picture.name}.svg", svg(figure)
        yield f"{picture.name}.png", png(figure)
    for name, table in (
        ("comparison", tables.comparison(section)),
        ("costs", tables.costs(section)),
    ):
        yield f"{name}.md", table.markdown()
        yield f"{name}.tex", table.latex()
    machine = {
        "comparison": tables.figures(section),
        "costs": tables.costs(section),
        "rounds": tables.curves(section),
        "relevance": tables.relevance(section),
        "tasks": tables.tasks(section),
        "gates": tables.gates(section),
    }
    for name, table in machine.items():
        if table.rows:
            yield f"{name}.csv", table.csv()
