"""Choose colours and marks: one style for each label, the same in every figure of a report.

There are eight marks, six colours (Okabe and Ito 2008, without the two that are faint on white)
and three kinds of line. Where colours look alike to a reader, the marks differ. FedMosaic is blue
and local training grey in every report. The colours suit light and dark pages.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Colours of a figure in a file, and the page's own colour (light or dark) that replaces each.
PAGE_COLOURS = {
    "#1f2328": "var(--text)",
    "#6a737d": "var(--soft)",
    "#d8dee4": "var(--line)",
    "#fefefe": "var(--paper)",
}
TEXT, SOFT, LINE, BACKGROUND = PAGE_COLOURS
FIXED = {"fedmosaic": ("#0072b2", "o"), "sft": ("#7f7f7f", "s")}
COLOURS = ("#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9", "#8c6d31")
MARKS = "D^vP*Xph"
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)))

# Marks as SVG paths in a box from −5 to 5, for legends on the page.
MARK_PATHS = {
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
class PlotStyle:
    """Describe how a label is drawn.

    Attributes:
        colour: as ``#rrggbb``.
        mark: matplotlib's name of its mark, a key of :data:`MARK_PATHS`.
        dash: matplotlib's line style.
    """

    colour: str
    mark: str
    dash: object


def plot_styles(labels: Sequence[str]) -> dict[str, PlotStyle]:
    """Return a style for each label; labels without a fixed one take the styles in order."""
    styles = {}
    others = 0
    for label in labels:
        if label in FIXED:
            styles[label] = PlotStyle(*FIXED[label], DASHES[0])
        else:
            dash = DASHES[others // len(COLOURS) % len(DASHES)]
            colour, mark = COLOURS[others % len(COLOURS)], MARKS[others % len(MARKS)]
            styles[label] = PlotStyle(colour, mark, dash)
            others += 1
    return styles
