"""Draw the things of the miniature world as coverage masks, before colours and styles.

Every function draws one kind of thing into a square mask (float32 [size, size], 0 to 1). Shapes are
rasterised at four times the size and averaged down. A mask depends on nothing but the arguments of
its function, so callers may cache it. ``scale`` (0 to 1) is the size of the thing relative to the
square.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage
from PIL import ImageDraw

from fedmosaic.miniature.world.scene import ARROW_DIRECTIONS

Mask = NDArray[np.float32]
_UPSAMPLING = 4

_ANGLES = dict(zip(ARROW_DIRECTIONS, (0, 90, 180, 270, 45, 135, 225, 315), strict=True))

# A 5 x 7 font; each glyph is seven rows of five bits, the leftmost pixel is the highest bit.
_FONT: dict[str, tuple[int, ...]] = {
    "0": (14, 17, 19, 21, 25, 17, 14), "1": (4, 12, 4, 4, 4, 4, 14), "2": (14, 17, 1, 6, 8, 16, 31),
    "3": (30, 1, 1, 14, 1, 1, 30), "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14),
    "6": (6, 8, 16, 30, 17, 17, 14), "7": (31, 1, 2, 4, 8, 8, 8), "8": (14, 17, 17, 14, 17, 17, 14),
    "9": (14, 17, 17, 15, 1, 2, 12), "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30), "C": (14, 17, 16, 16, 16, 17, 14),
    "D": (28, 18, 17, 17, 17, 18, 28), "E": (31, 16, 16, 30, 16, 16, 31),
    "F": (31, 16, 16, 30, 16, 16, 16), "G": (14, 17, 16, 23, 17, 17, 15),
    "H": (17, 17, 17, 31, 17, 17, 17), "I": (14, 4, 4, 4, 4, 4, 14), "J": (7, 2, 2, 2, 2, 18, 12),
    "K": (17, 18, 20, 24, 20, 18, 17), "L": (16, 16, 16, 16, 16, 16, 31),
    "M": (17, 27, 21, 21, 17, 17, 17), "N": (17, 25, 21, 19, 17, 17, 17),
    "O": (14, 17, 17, 17, 17, 17, 14), "P": (30, 17, 17, 30, 16, 16, 16),
    "Q": (14, 17, 17, 17, 21, 18, 13), "R": (30, 17, 17, 30, 20, 18, 17),
    "S": (15, 16, 16, 14, 1, 1, 30), "T": (31, 4, 4, 4, 4, 4, 4), "U": (17, 17, 17, 17, 17, 17, 14),
    "V": (17, 17, 17, 17, 17, 10, 4), "W": (17, 17, 17, 21, 21, 27, 17),
    "X": (17, 17, 10, 4, 10, 17, 17), "Y": (17, 17, 10, 4, 4, 4, 4), "Z": (31, 1, 2, 4, 8, 16, 31),
}  # fmt: skip
_PIPS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((0, 0),),
    2: ((-1, -1), (1, 1)),
    3: ((-1, -1), (0, 0), (1, 1)),
    4: ((-1, -1), (1, -1), (-1, 1), (1, 1)),
    5: ((-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)),
    6: ((-1, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (1, 1)),
    7: ((-1, -1), (1, -1), (-1, 0), (0, 0), (1, 0), (-1, 1), (1, 1)),
    8: ((-1, -1), (0, -1), (1, -1), (-1, 0), (1, 0), (-1, 1), (0, 1), (1, 1)),
    9: tuple((x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)),
}


class _Canvas:
    """Draw on a square of ``size`` pixels whose coordinates run from -1 to 1 on both axes."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.edge = size * _UPSAMPLING
        self.image = PILImage.new("L", (self.edge, self.edge), 0)
        self.draw = ImageDraw.Draw(self.image)

    def _xy(self, x: float, y: float) -> tuple[float, float]:
        half = self.edge / 2
        return half + x * (half - 1), half + y * (half - 1)

    def disc(self, x: float, y: float, radius: float, value: int = 255) -> None:
        self.draw.ellipse(
            [self._xy(x - radius, y - radius), self._xy(x + radius, y + radius)], fill=value
        )

    def box(self, x0: float, y0: float, x1: float, y1: float, value: int = 255) -> None:
        self.draw.rectangle([self._xy(x0, y0), self._xy(x1, y1)], fill=value)

    def polygon(self, points: list[tuple[float, float]], value: int = 255) -> None:
        self.draw.polygon([self._xy(*point) for point in points], fill=value)

    def line(self, points: list[tuple[float, float]], width: float) -> None:
        pixels = max(1, round(width * self.edge / 2))
        self.draw.line(
            [self._xy(*point) for point in points], fill=255, width=pixels, joint="curve"
        )

    def circle(self, x: float, y: float, radius: float, width: float) -> None:
        corners = [self._xy(x - radius, y - radius), self._xy(x + radius, y + radius)]
        self.draw.ellipse(corners, outline=255, width=max(1, round(width * self.edge / 2)))

    def mask(self) -> Mask:
        pixels = np.asarray(self.image, dtype=np.float32) / 255
        return np.ascontiguousarray(
            pixels.reshape(self.size, _UPSAMPLING, self.size, _UPSAMPLING).mean((1, 3))
        )


def _regular(
    corners: int, start: float, radii: tuple[float, ...] = (1.0,)
) -> list[tuple[float, float]]:
    step = 2 * math.pi / corners
    return [
        (
            radii[k % len(radii)] * math.cos(start + k * step),
            radii[k % len(radii)] * math.sin(start + k * step),
        )
        for k in range(corners)
    ]


def shape_mask(name: str, size: int, scale: float) -> Mask:
    """Draw a filled shape."""
    canvas, s = _Canvas(size), scale
    up = -math.pi / 2
    if name in ("circle", "ring", "moon"):
        canvas.disc(0, 0, 0.95 * s)
        if name == "ring":
            canvas.disc(0, 0, 0.5 * s, 0)
        if name == "moon":
            canvas.disc(0.5 * s, -0.2 * s, 0.75 * s, 0)
    elif name == "square":
        canvas.box(-0.82 * s, -0.82 * s, 0.82 * s, 0.82 * s)
    elif name == "cross":
        canvas.box(-0.32 * s, -0.95 * s, 0.32 * s, 0.95 * s)
        canvas.box(-0.95 * s, -0.32 * s, 0.95 * s, 0.32 * s)
    elif name == "heart":
        canvas.disc(-0.46 * s, -0.35 * s, 0.5 * s)
        canvas.disc(0.46 * s, -0.35 * s, 0.5 * s)
        canvas.polygon([(-0.92 * s, -0.12 * s), (0.92 * s, -0.12 * s), (0, 0.95 * s)])
    else:
        corners = {
            "triangle": [(0.0, -0.9), (0.95, 0.8), (-0.95, 0.8)],
            "diamond": [(0.0, -1.0), (0.62, 0.0), (0.0, 1.0), (-0.62, 0.0)],
            "star": _regular(10, up, (1.0, 0.42)),
            "hexagon": _regular(6, 0.0),
        }[name]
        canvas.polygon([(x * s, y * s) for x, y in corners])
    return canvas.mask()


def die_mask(pips: int, size: int, scale: float) -> Mask:
    """Draw pips (1 to 9) in a square frame."""
    canvas, s = _Canvas(size), scale
    canvas.box(-s, -s, s, s)
    canvas.box(-0.82 * s, -0.82 * s, 0.82 * s, 0.82 * s, 0)
    for x, y in _PIPS[pips]:
        canvas.disc(0.5 * s * x, 0.5 * s * y, 0.19 * s)
    return canvas.mask()


def dots_mask(count: int, size: int, scale: float) -> Mask:
    """Draw dots (1 to 9) without a frame."""
    canvas, s = _Canvas(size), scale
    for x, y in _PIPS[count]:
        canvas.disc(0.66 * s * x, 0.66 * s * y, 0.24 * s)
    return canvas.mask()


def clock_mask(hour: int, minute: int, size: int, scale: float) -> Mask:
    """Draw a clock with a short hour hand, a long minute hand, and ticks at 12, 3, 6 and 9."""
    canvas, s = _Canvas(size), scale
    canvas.circle(0, 0, 0.98 * s, 0.07 * s)
    for quarter in range(4):
        x, y = math.sin(quarter * math.pi / 2), -math.cos(quarter * math.pi / 2)
        canvas.line([(0.82 * s * x, 0.82 * s * y), (0.95 * s * x, 0.95 * s * y)], 0.1 * s)
    for fraction, length, width in ((hour / 12 + minute / 720, 0.5, 0.2), (minute / 60, 0.8, 0.08)):
        angle = 2 * math.pi * fraction
        canvas.line(
            [(0.0, 0.0), (length * s * math.sin(angle), -length * s * math.cos(angle))], width * s
        )
    canvas.disc(0, 0, 0.12 * s)
    return canvas.mask()


def glyph_mask(char: str, size: int, scale: float) -> Mask:
    """Draw a digit or capital letter."""
    canvas, cell = _Canvas(size), scale * 2 / 7
    for row, bits in enumerate(_FONT[char]):
        for column in range(5):
            if bits >> (4 - column) & 1:
                x, y = (column - 2.5) * cell, (row - 3.5) * cell
                canvas.box(x, y, x + cell, y + cell)
    return canvas.mask()


def symbol_mask(index: int, size: int, scale: float) -> Mask:
    """Draw the abstract symbol of a number.

    It has four strokes over a 4 × 4 lattice and sometimes a dot; symbols of odd numbers are
    mirrored. Every number is valid, and almost surely no two numbers have the same symbol.
    """
    draw = np.random.default_rng([7, index])
    canvas, s = _Canvas(size), scale
    grid = np.linspace(-0.85, 0.85, 4) * s
    strokes = []
    position = draw.integers(0, 4, 2)
    for _ in range(4):
        target = draw.integers(0, 4, 2)
        while np.array_equal(target, position):
            target = draw.integers(0, 4, 2)
        strokes.append(((grid[position[0]], grid[position[1]]), (grid[target[0]], grid[target[1]])))
        position = target
    for start, end in strokes:
        canvas.line([start, end], 0.2 * s)
        if index % 2:
            canvas.line([(-start[0], start[1]), (-end[0], end[1])], 0.2 * s)
    if draw.random() < 0.5:
        x, y = grid[draw.integers(0, 4, 2)]
        canvas.disc(x, y, 0.28 * s)
    return canvas.mask()


def arrow_mask(direction: str, size: int, scale: float) -> Mask:
    """Draw an arrow that points in a direction."""
    canvas = _Canvas(size)
    angle = math.radians(_ANGLES[direction])
    cos, sin = math.cos(angle), math.sin(angle)
    outline = [
        (-0.95, -0.2),
        (0.1, -0.2),
        (0.1, -0.65),
        (0.95, 0.0),
        (0.1, 0.65),
        (0.1, 0.2),
        (-0.95, 0.2),
    ]
    canvas.polygon([(scale * (x * cos - y * sin), scale * (x * sin + y * cos)) for x, y in outline])
    return canvas.mask()


def texture_mask(name: str, size: int) -> Mask:
    """Draw a texture over the whole square; the period of most is 6 pixels."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    if name == "stripes":
        on = y % 6 < 3
    elif name == "bars":
        on = x % 6 < 3
    elif name == "checks":
        on = (x // 4 + y // 4) % 2 == 0
    elif name == "dots":
        on = (x % 6 - 2.5) ** 2 + (y % 6 - 2.5) ** 2 < 4
    elif name == "waves":
        on = (y + 2.5 * np.sin(x * 2 * np.pi / 10)) % 6 < 3
    elif name == "grid":
        on = (x % 5 < 1) | (y % 5 < 1)
    elif name == "diagonal":
        on = (x + y) % 6 < 3
    else:
        on = np.random.default_rng([11, size]).random((size, size)) < 0.5
    texture: Mask = on.astype(np.float32)
    return texture


def fill_mask(mask: Mask, fill: str) -> Mask:
    """Return the mask with another fill; the outline always remains."""
    if fill == "solid":
        return mask
    edge: Mask = np.clip(mask - erode(mask, 2 if len(mask) < 40 else 3), 0, 1)
    if fill == "hollow":
        return edge
    y, x = np.mgrid[0 : len(mask), 0 : len(mask)]
    inside = (y % 4 < 2) if fill == "striped" else ((x % 4 < 2) & (y % 4 < 2))
    filled: Mask = np.maximum(edge * 0.9, mask * inside).astype(np.float32)
    return filled


def erode(mask: Mask, steps: int) -> Mask:
    """Shrink a mask by ``steps`` pixels (minimum over the four neighbours, repeated)."""
    out = np.pad(mask, steps)
    for _ in range(steps):
        low = out.copy()  # its outermost pixels are 0 and stay so
        for here, there in ((low[1:], out[:-1]), (low[:-1], out[1:])):
            np.minimum(here, there, out=here)
        for here, there in ((low[:, 1:], out[:, :-1]), (low[:, :-1], out[:, 1:])):
            np.minimum(here, there, out=here)
        out = low
    return out[steps:-steps, steps:-steps]
