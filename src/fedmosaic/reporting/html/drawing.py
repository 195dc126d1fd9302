"""Write figures of matplotlib as SVG, as PNG and as part of a page, always with the same bytes."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from fedmosaic.reporting.html.palette import LINE, PAGE_COLOURS, SOFT, TEXT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Settings of matplotlib for every figure of a report.
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fedmosaic",
    "font.family": "DejaVu Sans",
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": SOFT,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "figure.facecolor": "none",
    "legend.frameon": False,
}


def svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG file."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context(SETTINGS):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


def png(figure: Figure) -> bytes:
    """Return a figure as the bytes of a PNG file with a white background."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=200, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def inline(image: str, prefix: str) -> str:
    """Turn an SVG file into a part of a page.

    The image becomes as wide as the space it is given, and takes the font and the colours of the
    page.

    Args:
        image: what :func:`svg` returns.
        prefix: put before every id, so that several images on a page do not share ids.

    Returns:
        The ``<svg>`` element.
    """
    markup = image[image.index("<svg") :]
    markup = re.sub(r"<metadata>.*?</metadata>", "", markup, count=1, flags=re.S)
    markup = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", markup, count=1)
    markup = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", markup, count=1)
    markup = markup.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    markup = re.sub(r'\bid="', f'id="{prefix}', markup)
    markup = re.sub(r'href="#', f'href="#{prefix}', markup)
    markup = markup.replace("url(#", f"url(#{prefix}")
    markup = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1inherit", markup)
    for colour, variable in PAGE_COLOURS.items():
        markup = markup.replace(colour, variable)
    return re.sub(r"\s*\n\s*", "\n", markup)


def plain(text: str, longest: int = 40) -> str:
    """Make a text safe to draw: one line, no formulas, no control characters.

    Args:
        text: any text.
        longest: the most characters; a longer text ends with an ellipsis.
    """
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return (line if len(line) <= longest else line[: longest - 1] + "…").replace("$", r"\$")
