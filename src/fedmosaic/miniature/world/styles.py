"""Define the visual styles of the miniature world.

A style changes background, outline, fill and texture of a picture, but not its content. Styles with
``held_out=True`` never occur in the pretraining of the bundled models, so a task in such a style is
a domain shift.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmosaic.errors import DataError, nearest

RGB = tuple[int, int, int]

PALETTE: dict[str, RGB] = {
    "red": (214, 39, 40),
    "green": (44, 150, 44),
    "blue": (40, 80, 210),
    "yellow": (232, 208, 40),
    "orange": (244, 130, 24),
    "purple": (132, 50, 168),
    "pink": (248, 150, 200),
    "brown": (120, 74, 36),
    "teal": (32, 176, 176),
    "gray": (136, 136, 136),
}
"""Colour name -> RGB.

The other colour of things, ``"ink"``, is black or white, depending on the style's background.
"""

COLORS: tuple[str, ...] = tuple(PALETTE)


@dataclass(frozen=True)
class RenderStyle:
    """Describe how a scene is drawn.

    Attributes:
        name: key in :data:`STYLES`.
        background: colour of the background.
        ink: colour of things that have the colour ``"ink"``; default nearly black.
        outline: draw solid shapes as outlines; default False.
        stroke: ``"clean"`` (the default) or ``"rough"`` (uneven pencil lines and hatching).
        tint: share of the background colour mixed into every thing, 0 to 1; default 0.
        blur: radius of a box blur of the things, in pixels; default 0.
        pixel: side in pixels of the blocks that things are averaged over; default 1, no averaging.
        noise: standard deviation of the noise of a pixel, of 255; default 0.
        pattern: pattern on the background: ``""`` (the default), ``"stripes"``, ``"paper"`` or
            ``"frames"``.
        held_out: whether pretraining never shows this style; default False.
    """

    name: str
    background: RGB
    ink: RGB = (20, 20, 20)
    outline: bool = False
    stroke: str = "clean"
    tint: float = 0.0
    blur: int = 0
    pixel: int = 1
    noise: float = 0.0
    pattern: str = ""
    held_out: bool = False


_ALL = (
    RenderStyle("plain", (255, 255, 255)),
    RenderStyle("outlined", (250, 250, 244), outline=True),
    RenderStyle("dark", (16, 18, 28), ink=(240, 240, 240)),
    RenderStyle("noisy", (226, 226, 226), noise=22.0),
    RenderStyle("striped", (246, 240, 224), pattern="stripes"),
    RenderStyle("soft", (255, 252, 246), blur=1),
    RenderStyle("pastel", (244, 244, 252), ink=(60, 60, 70), tint=0.45),
    RenderStyle("sketch", (252, 250, 240), ink=(50, 50, 50), stroke="rough", held_out=True),
    RenderStyle("mosaic", (240, 244, 240), pixel=2, held_out=True),
    RenderStyle("dusk", (58, 44, 66), ink=(220, 210, 190), tint=0.3, noise=10.0, held_out=True),
    RenderStyle("paper", (250, 246, 226), ink=(30, 40, 90), pattern="paper", held_out=True),
    RenderStyle("framed", (236, 246, 255), pattern="frames", held_out=True),
)

STYLES: dict[str, RenderStyle] = {style.name: style for style in _ALL}
TRAINED_STYLES: tuple[str, ...] = tuple(style.name for style in _ALL if not style.held_out)
HELD_OUT_STYLES: tuple[str, ...] = tuple(style.name for style in _ALL if style.held_out)


def get_style(style: str | RenderStyle) -> RenderStyle:
    """Return the style of a name; a :class:`RenderStyle` is returned unchanged.

    Raises:
        DataError: there is no style of that name.
    """
    if isinstance(style, RenderStyle):
        return style
    if style not in STYLES:
        raise DataError(f"unknown miniature style {style!r}.{nearest(style, STYLES)}")
    return STYLES[style]
