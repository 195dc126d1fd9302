"""Colours and marks: the same for a label in every figure, distinct for those who see colours otherwise, in light and in dark.

Eight marks and six colours (Okabe and Ito 2008, without the two that are faint on white) and three kinds of line: what colour does not
tell, the mark does. FedMosaic is blue and local training grey in every report.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What takes the page's own colour (light or dark) on the page, and this colour in a paper.
INKS = {
    "#1f2328": "var(--ink)",
    "#6a737d": "var(--soft)",
    "#d8dee4": "var(--line)",
    "#fefefe": "var(--paper)",
}
INK, SOFT, LINE, PAPER = INKS
OWN = {"fedmosaic": ("#0072b2", "o"), "sft": ("#7f7f7f", "s")}
COLOURS = ("#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#8c6d31")
MARKS = "D^vP*Xph"
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)))

SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedmosaic",
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "figure.facecolor": "none",
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Style:
    """How a label is drawn: its colour, matplotlib's name of its mark, and its kind of line."""

    colour: str
    mark: str
    dash: object


def styles(labels: Sequence[str]) -> dict[str, Style]:
    """By label; those without a colour of their own in order."""
    found = {}
    others = 0
    for label in labels:
        if label in OWN:
            found[label] = Style(*OWN[label], DASHES[0])
        else:
            dash = DASHES[others // len(COLOURS) % len(DASHES)]
            found[label] = Style(COLOURS[others % len(COLOURS)], MARKS[others % len(MARKS)], dash)
            others += 1
    return found


def plain(text: str, longest: int = 40) -> str:
    """Text for a picture: no formulas, no control characters, and not longer than that."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return (line if len(line) <= longest else line[: longest - 1] + "…").replace("$", r"\$")


def svg(figure: Figure) -> str:
    """The picture as a file of its own."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context(SETTINGS):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def inline(picture: str, prefix: str) -> str:
    """A picture of :func:`svg` as part of a page: as wide as its place, in the page's font and inks, with ids of its own."""
    drawn = picture[picture.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, count=1, flags=re.S)
    drawn = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", drawn, count=1)
    drawn = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", drawn, count=1)
    drawn = drawn.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    drawn = re.sub(r'\bid="', f'id="{prefix}', drawn)
    drawn = re.sub(r'href="#', f'href="#{prefix}', drawn)
    drawn = drawn.replace("url(#", f"url(#{prefix}")
    drawn = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit", drawn)
    for colour, variable in INKS.items():
        drawn = drawn.replace(colour, variable)
    return re.sub(r"\s*\n\s*", "\n", drawn)
