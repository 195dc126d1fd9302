"""Random pictures for pretraining: what they show, in which style, and what the tower must tell about each cell."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmosaic.miniature.world.render import (
    COLORS,
    DIRECTIONS,
    FILLS,
    GLYPHS,
    KINDS,
    SHAPES,
    SIZES,
    TEXTURES,
    TRAINED_STYLES,
    Scene,
    Thing,
    render,
)

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

ARROWS = DIRECTIONS[:4]
_SIZES, _NAMES = tuple(SIZES), list(PICTURE_KINDS)
_WEIGHTS = list(PICTURE_KINDS.values())

# Per-cell questions that the tower learns to answer linearly: name -> number of answers.
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
_COLUMN = {name: index for index, name in enumerate(TARGETS)}
_TINTS = (*COLORS, "ink")


@dataclass(frozen=True)
class ScenePicture:
    """A scene in a style; ``kind`` is a key of :data:`PICTURE_KINDS`."""

    kind: str
    scene: Scene
    style: str

    @property
    def things(self) -> tuple[Thing, ...]:
        return self.scene.things

    def pixels(self) -> NDArray[np.uint8]:
        """uint8 [60, 60, 3]."""
        return render(self.scene, self.style)


def draw_picture(rng: random.Random, kind: str | None = None) -> ScenePicture:
    """A random picture, of a random kind unless one is given."""
    kind = kind or rng.choices(_NAMES, _WEIGHTS)[0]
    things = _draw_things(rng, kind)
    return ScenePicture(kind, Scene(tuple(things), rng.randrange(61)), rng.choice(TRAINED_STYLES))


def _shift(rng: random.Random) -> tuple[int, int]:
    return rng.randint(-2, 2), rng.randint(-2, 2)


def _place(rng: random.Random, whole: float) -> int | None:
    return None if rng.random() < whole else rng.choice((4, 4, *range(9)))


def _draw_things(rng: random.Random, kind: str) -> list[Thing]:
    if kind == "single":
        color, shape, fill = rng.choice(COLORS), rng.choice(SHAPES), rng.choice(FILLS)
        return [
            Thing("shape", shape, color, rng.choice(_SIZES), _place(rng, 0.25), fill, _shift(rng))
        ]
    if kind == "several":
        count = rng.randint(2, 4)
        cells = sorted(rng.sample(range(9), count))
        pairs = zip(rng.sample(SHAPES, count), rng.sample(COLORS, count), cells, strict=True)
        fill = rng.choice(("solid", "solid", *FILLS))
        return [
            Thing("shape", shape, color, "large", cell, fill, _shift(rng))
            for shape, color, cell in pairs
        ]
    if kind == "group":
        total = rng.randint(1, 9)
        first = rng.randint(1, total) if rng.random() < 0.5 else total
        shapes, colors = rng.sample(SHAPES, 2), rng.sample(COLORS, 2)
        size = rng.choice(("medium", "large"))
        cells = rng.sample(range(9), total)
        return [
            Thing("shape", shapes[k >= first], colors[k >= first], size, cell, "solid", _shift(rng))
            for k, cell in enumerate(cells)
        ]
    if kind == "dice":
        cells = sorted(rng.sample(range(9), 2))
        return [
            Thing("die", rng.randint(1, 6), _ink(rng), "large", cell, shift=_shift(rng))
            for cell in cells
        ]
    if kind == "bars":
        count = rng.choice((3, 4))
        heights = tuple(rng.sample(range(1, 6), count))
        tints = (
            tuple(rng.sample(COLORS, count))
            if rng.random() < 0.7
            else (rng.choice(COLORS),) * count
        )
        return [
            Thing(
                "bars",
                heights,
                tints,
                "large",
                None if rng.random() < 0.8 else 4,
                shift=_shift(rng),
            )
        ]
    value: str | int | tuple[int, ...]
    if kind == "clock":
        return [
            Thing(
                "clock",
                (rng.randint(1, 12), 0),
                _ink(rng),
                "large",
                _place(rng, 0.6),
                shift=_shift(rng),
            )
        ]
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
    return [Thing(kind, value, _ink(rng), size, _place(rng, 0.25), shift=_shift(rng))]


def _ink(rng: random.Random) -> str:
    return "ink" if rng.random() < 0.5 else rng.choice(COLORS)


def cell_targets(picture: ScenePicture) -> NDArray[np.int64]:
    """Answers of each cell: int64 [9, len(TARGETS)], -100 where a question has no answer there.

    A thing that covers the whole picture answers in all nine cells.
    """
    out = np.full((9, len(TARGETS)), -100, np.int64)
    out[:, _COLUMN["kind"]] = len(KINDS)
    for thing in picture.things:
        row = out[:] if thing.cell is None else out[thing.cell : thing.cell + 1]
        row[:, _COLUMN["kind"]] = KINDS.index(thing.kind)
        value = thing.value
        if isinstance(thing.color, str):
            row[:, _COLUMN["color"]] = _TINTS.index(thing.color)
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
                row[:, _COLUMN[f"bar{k}"]] = _TINTS.index(color)
    return out
