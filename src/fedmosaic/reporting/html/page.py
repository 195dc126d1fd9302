"""The page: verdict, table, pictures, matrices and settings of every section, in one file that needs nothing else."""

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
from fedmosaic.reporting.html import matrices, verdict
from fedmosaic.reporting.html.figures import NARROW, WIDE, pictures
from fedmosaic.reporting.html.ink import Style, inline, styles, svg
from fedmosaic.reporting.html.matrices import Matrix
from fedmosaic.reporting.html.sections import Section
from fedmosaic.reporting.html.tables import costs
from fedmosaic.reporting.html.verdict import Control, Listening, Standing

MAIN = ("Self", "Others")
# Marks as paths in a box from −5 to 5, for legends.
SHAPES = {
    "o": "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "s": "M-4-4h8v8h-8z",
    "D": "M0-5L5 0L0 5L-5 0z",
    "^": "M0-5L5 4H-5z",
    "v": "M0 5L5-4H-5z",
    "P": "M-1.5-5h3v3.5h3.5v3h-3.5v3.5h-3v-3.5h-3.5v-3h3.5z",
    "*": "M0-5L1.4-1.5L5-1.5L2.2 .8L3.2 4.6L0 2.4L-3.2 4.6L-2.2 .8L-5-1.5L-1.4-1.5z",
    "X": "M-5-3L-3-5L0-2L3-5L5-3L2 0L5 3L3 5L0 2L-3 5L-5 3L-2 0z",
    "p": "M0-5L4.8-1.5L3 4.2H-3L-4.8-1.5z",
    "h": "M0-5L4.3-2.5V2.5L0 5L-4.3 2.5V-2.5z",
}


@dataclass(frozen=True)
class Drawn:
    """A picture at both widths, as markup; one whose labels are ``named`` in it needs no legend."""

    title: str
    text: str
    narrow: Markup
    wide: Markup
    named: bool


@dataclass(frozen=True)
class View:
    """A section as the template sees it."""

    id: str
    section: Section
    headline: str
    standings: Sequence[Standing]
    heard: Listening | None
    controls: Sequence[Control]
    styles: Mapping[str, Style]
    pictures: Sequence[Drawn]
    matrices: Mapping[str, Matrix]
    costs: Any
    versions: Mapping[str, Sequence[str]]


def page(sections: Sequence[Section], notes: Sequence[str]) -> str:
    """The HTML of a report. The same sections give the same text."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "share": _share,
        "number": _number,
        "difference": _difference,
        "data": data,
        "points": verdict.points,
    }
    environment.filters["told"] = lambda gap: (
        "up" if _above(gap, 1) else "down" if _above(gap, -1) else ""
    )
    here = files(__package__)
    template = environment.from_string(here.joinpath("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        views=[_view(section, f"s{index}") for index, section in enumerate(sections)],
        notes=[*notes, *(note for section in sections for note in section.notes)],
        version=__version__,
        style=Markup(here.joinpath("page.css").read_text(encoding="utf-8")),
        script=Markup(here.joinpath("page.js").read_text(encoding="utf-8")),
        shapes=SHAPES,
        sureness=verdict.sureness,
    )


def _view(section: Section, name: str) -> View:
    inks = styles(list(section.runs))
    standings = [found for column in MAIN if (found := verdict.standing(section, column))]
    labels = sorted(section.runs, key=lambda label: label != "fedmosaic")
    heard = next((heard for label in labels if (heard := verdict.listening(section, label))), None)
    drawn = []
    for picture in pictures(section, inks):
        narrow, wide = (
            Markup(inline(svg(picture.draw(width)), f"{name}-{picture.name}-{kind}-"))
            for kind, width in (("narrow", NARROW), ("wide", WIDE))
        )
        drawn.append(Drawn(picture.title, picture.text, narrow, wide, picture.named))
    made = [matrices.relevance(section), matrices.accuracy(section), matrices.gates(section)]
    versions: dict[str, list[str]] = {}
    for runs in section.runs.values():
        for run in runs.values():
            for package, number in run.settings.versions.items():
                if number not in versions.setdefault(package, []):
                    versions[package].append(number)
    return View(
        name,
        section,
        verdict.headline(standings, len(section.seeds)),
        standings,
        heard,
        verdict.controls(section),
        inks,
        drawn,
        {matrix.name: matrix for matrix in made if matrix},
        costs(section),
        versions,
    )


def data(content: Any) -> Markup:
    """JSON for a script element: nothing in it can end that element."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=True)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _share(value: int | None, scale: int) -> int:
    """How strong a cell's colour is, in percent."""
    return 0 if value is None else min(100, round(100 * abs(value) / scale))


def _number(figure: Any) -> str:
    if isinstance(figure, Interval):
        return f"{figure.mean:.1f}" + ("" if figure.half is None else f" ± {figure.half:.1f}")
    return mean(figure)


def _difference(figure: Mapping[str, Any]) -> str:
    return difference(figure).replace("-", "−")


def _above(gap: Mapping[str, Any], sign: int) -> bool:
    return gap["ci95"] is not None and sign * gap["mean"] - gap["ci95"] > 0
