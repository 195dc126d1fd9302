"""Describe the pictures of the miniature world: scenes, the things in them, and their names.

A picture is a 3 × 3 grid of cells of 20 × 20 pixels, numbered row by row. The vision tower of the
bundled models takes exactly these nine patches::

    0 1 2
    3 4 5
    6 7 8

A :class:`Scene` is a tuple of :class:`Thing`. A thing is in one cell, or covers the whole picture
(``cell=None``: a big clock, a big chart, one big shape). Its ``kind`` says what ``value`` means:

===========  ====================================================================================
kind         value
===========  ====================================================================================
``shape``    a name of :data:`SHAPES`; ``fill``, ``color`` and ``size`` apply
``die``      pips 1 to 9, in a frame
``dots``     1 to 9, without a frame
``clock``    ``(hour, minute)``, hour 1 to 12, minute 0 to 59; pretraining uses minute 0 only
``bars``     tuple of 1 to 5 heights 0 to 5; ``color`` is one name, or a tuple with one for each bar
``glyph``    one of :data:`GLYPHS` (0-9, A-Z)
``symbol``   a number of an abstract symbol, for tasks that must be learned. Numbers 0 to 47
             (:data:`SYMBOLS`) never occur in pretraining, which uses numbers from 1000
``arrow``    a name of :data:`ARROW_DIRECTIONS`; pretraining uses the first four
``texture``  a name of :data:`TEXTURES`; it fills its cell
===========  ====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_SIZE = 60
"""Pixels of a picture's sides."""

CELL = 20
"""Pixels of a cell's sides."""

KINDS: tuple[str, ...] = (
    "shape", "die", "dots", "clock", "bars", "glyph", "symbol", "arrow", "texture",
)  # fmt: skip
SIZES: dict[str, float] = {"small": 0.55, "medium": 0.78, "large": 1.0}
"""Name of a size -> scale of the thing in its square."""

SHAPES: tuple[str, ...] = (
    "circle", "square", "triangle", "diamond", "star", "cross", "heart", "ring", "moon", "hexagon",
)  # fmt: skip
FILLS: tuple[str, ...] = ("solid", "hollow", "striped", "dotted")
TEXTURES: tuple[str, ...] = (
    "stripes", "bars", "checks", "dots", "waves", "grid", "diagonal", "noise",
)  # fmt: skip
ARROW_DIRECTIONS: tuple[str, ...] = (
    "right", "down", "left", "up", "down-right", "down-left", "up-left", "up-right",
)  # fmt: skip
GLYPHS: tuple[str, ...] = tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SYMBOLS: tuple[int, ...] = tuple(range(48))

Value = str | int | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Thing:
    """Describe one thing in a picture.

    Attributes:
        kind: one of :data:`KINDS`.
        value: what it shows; see the table of this module.
        color: a name of :data:`fedmosaic.miniature.world.styles.COLORS`; ``"ink"`` (the default)
            for black, or white on dark styles; or, for bars, a tuple with a colour for each bar.
        size: ``"small"``, ``"medium"`` or ``"large"`` (the default).
        cell: 0 to 8, or None for the whole picture; default 4, the middle.
        fill: one of :data:`FILLS`, for shapes; default ``"solid"``.
        shift: pixels to the right and down, each -2 to 2, so that pictures of equal content differ;
            default (0, 0). A thing that covers the whole picture is not shifted.
    """

    kind: str
    value: Value
    color: str | tuple[str, ...] = "ink"
    size: str = "large"
    cell: int | None = 4
    fill: str = "solid"
    shift: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Scene:
    """Describe one picture.

    Attributes:
        things: the things in the order of drawing; later ones cover earlier ones.
        seed: draws the noise of noisy styles and the lines of the sketch style; default 0.
    """

    things: tuple[Thing, ...]
    seed: int = 0
