"""Draw random pictures for pretraining, and the tower's classification targets for each cell."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmosaic.miniature.world.render import render
from fedmosaic.miniature.world.scene import (
    ARROW_DIRECTIONS,
    FILLS,
    GLYPHS,
    KINDS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
)
from fedmosaic.miniature.world.styles import COLORS, TRAINED_STYLES

PICTURE_KINDS: dict[str, float] = {
    "single": 0.22,
    "several": 0.24,
    "group": 0.12,
    "die": 0.06,
    "dice": 0.05,
    "dots": 0.04,
    "clock": 0.08,
    "bars": 0.08,
    "glyph": 0.04,
    "symbol": 0.03,
    "arrow": 0.02,
    "texture": 0.02,
}
"""Share of each kind of picture in the pretraining pool."""

ARROWS = ARROW_DIRECTIONS[:4]
_SIZES, _NAMES = tuple(SIZES), list(PICTURE_KINDS)
_WEIGHTS = list(PICTURE_KINDS.values())

TARGETS: dict[str, int] = {
    "kind": len(KINDS) + 1,
    "color": len(COLORS) + 1,
    "shape": len(SHAPES),
    "fill": len(FILLS),
    "size": len(SIZES),
    "number": 9,
    "hour": 12,
    "glyph": len(GLYPHS),
    "arrow": len(ARROWS),
    "texture": len(TEXTURES),
    **{f"height{k}": 6 for k in range(4)},
    **{f"bar{k}": len(COLORS) + 1 for k in range(4)},
}
"""Targets of the tower's readouts for each cell: name -> number of classes."""

_COLUMN = {name: index for index, name in enumerate(TARGETS)}
_COLORS_AND_INK = (*COLORS, "ink")


@dataclass(frozen=True)
class ScenePicture:
    """Hold a scene and the style to render it in.

    Attributes:
        kind: a key of :data:`PICTURE_KINDS`.
        scene: what it shows.
        style: name of the style.
    """

    kind: str
    scene: Scene
    style: str

    @property
    def things(self) -> tuple[Thing, ...]:
        return self.scene.things

    def pixels(self) -> NDArray[np.uint8]:
        """Return the rendered picture, uint8 [60, 60, 3]."""
        return render(self.scene, self.style)


def draw_picture(rng: random.Random, kind: str | None = None) -> ScenePicture:
    """Return a random picture, of a random kind unless one is given."""
    kind = kind or rng.choices(_NAMES, _WEIGHTS)[0]
    things = _draw_things(rng, kind)
    return ScenePicture(kind, Scene(tuple(things), rng.randrange(61)), rng.choice(TRAINED_STYLES))


def _draw_things(rng: random.Random, kind: str) -> list[Thing]:
    """Draw the things of a picture. The order of the draws decides the pretraining pictures."""
    draw = {
        "single": _single_shape,
        "several": _different_shapes,
        "group": _groups_of_shapes,
        "dice": _two_dice,
        "bars": _bar_chart,
        "clock": _clock,
    }.get(kind)
    return draw(rng) if draw else [_plain_thing(rng, kind)]


def _single_shape(rng: random.Random) -> list[Thing]:
    color, shape, fill = rng.choice(COLORS), rng.choice(SHAPES), rng.choice(FILLS)
    size, cell = rng.choice(_SIZES), _draw_cell(rng, 0.25)
    return [Thing("shape", shape, color, size, cell, fill, _draw_shift(rng))]


def _different_shapes(rng: random.Random) -> list[Thing]:
    """Draw two to four shapes that differ in shape and colour."""
    count = rng.randint(2, 4)
    cells = sorted(rng.sample(range(9), count))
    looks = zip(rng.sample(SHAPES, count), rng.sample(COLORS, count), cells, strict=True)
    fill = rng.choice(("solid", "solid", *FILLS))
    return [
        Thing("shape", shape, color, "large", cell, fill, _draw_shift(rng))
        for shape, color, cell in looks
    ]


def _groups_of_shapes(rng: random.Random) -> list[Thing]:
    """Draw one to nine shapes of one look or of two."""
    total = rng.randint(1, 9)
    first = rng.randint(1, total) if rng.random() < 0.5 else total
    shapes, colors = rng.sample(SHAPES, 2), rng.sample(COLORS, 2)
    size = rng.choice(("medium", "large"))
    cells = rng.sample(range(9), total)
    return [
        Thing(
            "shape", shapes[k >= first], colors[k >= first], size, cell, "solid", _draw_shift(rng)
        )
        for k, cell in enumerate(cells)
    ]


def _two_dice(rng: random.Random) -> list[Thing]:
    cells = sorted(rng.sample(range(9), 2))
    return [
        Thing("die", rng.randint(1, 6), _draw_color(rng), "large", cell, shift=_draw_shift(rng))
        for cell in cells
    ]


def _bar_chart(rng: random.Random) -> list[Thing]:
    count = rng.choice((3, 4))
    heights = tuple(rng.sample(range(1, 6), count))
    colors = (
        tuple(rng.sample(COLORS, count)) if rng.random() < 0.7 else (rng.choice(COLORS),) * count
    )
    cell = None if rng.random() < 0.8 else 4
    return [Thing("bars", heights, colors, "large", cell, shift=_draw_shift(rng))]


def _clock(rng: random.Random) -> list[Thing]:
    time = (rng.randint(1, 12), 0)
    color, cell = _draw_color(rng), _draw_cell(rng, 0.6)
    return [Thing("clock", time, color, "large", cell, shift=_draw_shift(rng))]


def _plain_thing(rng: random.Random, kind: str) -> Thing:
    """Draw a die, dots, a glyph, a symbol, an arrow or a texture."""
    value: str | int
    if kind == "die":
        value = rng.choice((rng.randint(1, 6), rng.randint(1, 9)))
    elif kind == "dots":
        value = rng.randint(1, 9)
    elif kind == "glyph":
        value = rng.choice(GLYPHS)
    elif kind == "symbol":
        value = rng.randrange(1000, 3000)
    elif kind == "arrow":
        value = rng.choice(ARROWS)
    else:
        value = rng.choice(TEXTURES)
    size = "large" if kind in ("die", "dots") else rng.choice(("medium", "large"))
    color, cell = _draw_color(rng), _draw_cell(rng, 0.25)
    return Thing(kind, value, color, size, cell, shift=_draw_shift(rng))


def _draw_shift(rng: random.Random) -> tuple[int, int]:
    return rng.randint(-2, 2), rng.randint(-2, 2)


def _draw_cell(rng: random.Random, whole: float) -> int | None:
    """Draw a cell, the middle one most often; with probability ``whole`` the whole picture."""
    return None if rng.random() < whole else rng.choice((4, 4, *range(9)))


def _draw_color(rng: random.Random) -> str:
    return "ink" if rng.random() < 0.5 else rng.choice(COLORS)


def cell_targets(picture: ScenePicture) -> NDArray[np.int64]:
    """Return the class of each target in each cell, int64 [9, len(TARGETS)]; -100 for none.

    A thing that covers the whole picture counts for all nine cells.
    """
    out = np.full((9, len(TARGETS)), -100, np.int64)
    out[:, _COLUMN["kind"]] = len(KINDS)
    for thing in picture.things:
        row = out[:] if thing.cell is None else out[thing.cell : thing.cell + 1]
        row[:, _COLUMN["kind"]] = KINDS.index(thing.kind)
        value = thing.value
        if isinstance(thing.color, str):
            row[:, _COLUMN["color"]] = _COLORS_AND_INK.index(thing.color)
        if thing.kind == "shape":
            row[:, _COLUMN["shape"]] = SHAPES.index(str(value))
            row[:, _COLUMN["fill"]] = FILLS.index(thing.fill)
            row[:, _COLUMN["size"]] = _SIZES.index(thing.size)
        elif thing.kind in ("die", "dots") and isinstance(value, int):
            row[:, _COLUMN["number"]] = value - 1
        elif thing.kind == "clock" and isinstance(value, tuple):
            row[:, _COLUMN["hour"]] = value[0] - 1
        elif thing.kind == "glyph":
            row[:, _COLUMN["glyph"]] = GLYPHS.index(str(value))
        elif thing.kind == "arrow":
            row[:, _COLUMN["arrow"]] = ARROWS.index(str(value))
        elif thing.kind == "texture":
            row[:, _COLUMN["texture"]] = TEXTURES.index(str(value))
        elif thing.kind == "bars" and isinstance(value, tuple):
            for k, (height, color) in enumerate(zip(value, thing.color, strict=True)):
                row[:, _COLUMN[f"height{k}"]] = height
                row[:, _COLUMN[f"bar{k}"]] = _COLORS_AND_INK.index(color)
    return out
