"""Render scenes as RGB images of 60 × 60 pixels.

Rendering is deterministic: the same scene in the same style gives the same bytes. Finished sprites
are cached, so a picture of a few cells takes 7 to 20 microseconds; only the first use of a sprite
is slower. Styles are in :mod:`fedmosaic.miniature.world.styles`.

A task's answers and options should be names of this world (:mod:`fedmosaic.miniature.world.scene`)
or words of :mod:`fedmosaic.miniature.world.words`, which are one token each in the word-level
tokenizer.

Example::

    scene = Scene((Thing("shape", "star", color="red", cell=4), Thing("die", 5, cell=0)), seed=3)
    pixels = render(scene, "plain")          # uint8 [60, 60, 3]
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedmosaic.errors import DataError, nearest
from fedmosaic.miniature.world import sprites
from fedmosaic.miniature.world.scene import (
    ARROW_DIRECTIONS,
    CELL,
    FILLS,
    GLYPHS,
    IMAGE_SIZE,
    KINDS,
    SHAPES,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    Value,
)
from fedmosaic.miniature.world.styles import COLORS, PALETTE, RenderStyle, get_style

# Pixels of a thing's own square; two pixels on each side are left for its shift.
_INNER = 16


def render(scene: Scene, style: str | RenderStyle = "plain") -> NDArray[np.uint8]:
    """Return the pixels of a scene, uint8 [60, 60, 3].

    Args:
        scene: what to draw.
        style: name of a style, or a style; default ``"plain"``.

    Raises:
        DataError: the style is unknown, or a kind, value, colour, size, fill, cell or shift of a
            thing is not one that :mod:`fedmosaic.miniature.world.scene` lists.
    """
    style = get_style(style)
    image = _background(style).copy()
    variant = scene.seed % 3 if style.stroke == "rough" else 0
    for thing in scene.things:
        whole = thing.cell is None
        try:
            tile, cover = _sprite(
                thing.kind, thing.value, thing.color, thing.size, thing.fill, whole, style, variant
            )
        except KeyError as error:
            raise _unknown_word(thing) from error
        if whole:
            target = image
        else:
            right, down = thing.shift
            cell = thing.cell
            assert cell is not None
            if not (0 <= cell < 9 and -2 <= right <= 2 and -2 <= down <= 2):
                raise DataError(
                    f"{thing}: the cell must be 0 to 8 and the shift within -2 to 2 pixels"
                )
            if len(tile) == CELL:
                right = down = -2
            top, left = CELL * (cell // 3) + 2 + down, CELL * (cell % 3) + 2 + right
            target = image[top : top + len(tile), left : left + len(tile)]
        if cover is None:
            target[...] = tile
        else:
            np.copyto(target, tile, where=cover)
    if style.noise:
        noisy = image.astype(np.int16)
        noisy += _noise(style.noise, scene.seed % 61)
        np.clip(noisy, 0, 255, out=noisy)
        image = noisy.astype(np.uint8)
    return image


def _unknown_word(thing: Thing) -> DataError:
    """Return the error for a thing with a word or number that the renderer does not know."""
    if thing.kind not in KINDS:
        return DataError(f"unknown kind of thing {thing.kind!r}.{nearest(str(thing.kind), KINDS)}")
    if thing.size not in SIZES:
        return DataError(f"unknown size {thing.size!r}.{nearest(str(thing.size), SIZES)}")
    if thing.fill not in FILLS:
        return DataError(f"unknown fill {thing.fill!r}.{nearest(str(thing.fill), FILLS)}")
    for color in (thing.color,) if isinstance(thing.color, str) else thing.color:
        if color not in (*COLORS, "ink"):
            return DataError(f"unknown colour {color!r}.{nearest(color, (*COLORS, 'ink'))}")
    return DataError(
        f"a {thing.kind} cannot show {thing.value!r} (colour {thing.color!r});"
        f" see {Thing.__module__}"
    )


@lru_cache(maxsize=64)
def _background(style: RenderStyle) -> NDArray[np.uint8]:
    image = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    image[:] = style.background
    shade = np.asarray(style.background, np.float32)
    if style.pattern == "stripes":
        y, x = np.mgrid[0:IMAGE_SIZE, 0:IMAGE_SIZE]
        image[(x + y) % 8 < 3] = (shade * 0.86).astype(np.uint8)
    elif style.pattern == "paper":
        image[::5] = image[:, ::5] = (170, 200, 225)
    elif style.pattern == "frames":
        for k in range(0, IMAGE_SIZE, CELL):
            image[k] = image[k + CELL - 1] = image[:, k] = image[:, k + CELL - 1] = (120, 120, 130)
    return image


@lru_cache(maxsize=61)
def _noise(level: float, variant: int) -> NDArray[np.int16]:
    draw = np.random.default_rng([3, variant])
    return (draw.standard_normal((IMAGE_SIZE, IMAGE_SIZE, 3)) * level).astype(np.int16)


@lru_cache(maxsize=16384)
def _sprite(
    kind: str,
    value: Value,
    color: str | tuple[str, ...],
    size: str,
    fill: str,
    whole: bool,
    style: RenderStyle,
    variant: int,
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Return a thing's pixels, and where they cover the background (None: everywhere).

    Raises:
        KeyError: a word or number is unknown.
    """
    edge = IMAGE_SIZE if whole else (CELL if kind == "texture" else _INNER)
    scale = SIZES[size] * (0.92 if whole else 1.0)
    if fill not in FILLS:
        raise KeyError(fill)
    background = np.asarray(style.background, np.float32)
    if kind == "bars":
        layers = _bars(value, color, edge, scale)
    else:
        if not isinstance(color, str):
            raise KeyError(color)
        mask = _mask(kind, value, edge, scale)
        if kind == "shape":
            mask = sprites.fill_mask(mask, "hollow" if style.outline and fill == "solid" else fill)
        layers = [(mask, color)]
    pixels = np.broadcast_to(background, (edge, edge, 3)).copy()
    cover = np.zeros((edge, edge), np.float32)
    for mask, name in layers:
        paint = np.asarray(style.ink if name == "ink" else PALETTE[name], np.float32)
        paint = (1 - style.tint) * paint + style.tint * background
        mask = _apply_stroke_and_blur(
            mask, style, variant, rough=kind in ("shape", "arrow", "bars")
        )
        pixels += mask[..., None] * (paint - pixels)
        cover = np.maximum(cover, mask)
    if style.pixel > 1:
        blocks = pixels.reshape(
            edge // style.pixel, style.pixel, edge // style.pixel, style.pixel, 3
        ).mean((1, 3))
        pixels = blocks.repeat(style.pixel, 0).repeat(style.pixel, 1)
    tile = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if style.pattern or whole:
        return tile, np.repeat((cover > 0.25)[..., None], 3, axis=2)
    return tile, None


def _mask(kind: str, value: Value, edge: int, scale: float) -> sprites.Mask:
    """Return the mask of a thing of one colour.

    Raises:
        KeyError: ``value`` does not fit ``kind``.
    """
    if kind == "shape" and value in SHAPES:
        return sprites.shape_mask(str(value), edge, scale)
    if kind == "texture" and value in TEXTURES:
        return sprites.texture_mask(str(value), edge)
    if kind == "arrow" and value in ARROW_DIRECTIONS:
        return sprites.arrow_mask(str(value), edge, scale)
    if kind == "glyph" and value in GLYPHS:
        return sprites.glyph_mask(str(value), edge, scale)
    if (
        kind == "clock"
        and isinstance(value, tuple)
        and len(value) == 2
        and 1 <= value[0] <= 12
        and 0 <= value[1] < 60
    ):
        return sprites.clock_mask(value[0], value[1], edge, scale)
    if isinstance(value, int) and value >= 0:
        if kind == "symbol":
            return sprites.symbol_mask(value, edge, scale)
        if kind in ("die", "dots") and 1 <= value <= 9:
            return (sprites.die_mask if kind == "die" else sprites.dots_mask)(value, edge, scale)
    raise KeyError(value)


def _bars(
    value: Value, color: str | tuple[str, ...], edge: int, scale: float
) -> list[tuple[sprites.Mask, str]]:
    """Return a mask for each bar of a chart and for its base line; height 5 reaches the top."""
    if (
        not isinstance(value, tuple)
        or not 1 <= len(value) <= 5
        or not all(0 <= height <= 5 for height in value)
    ):
        raise KeyError(value)
    names = (color,) * len(value) if isinstance(color, str) else color
    if len(names) != len(value):
        raise KeyError(color)
    span = round(edge * scale)
    left, floor = (edge - span) // 2, edge - (edge - span) // 2 - 1
    step = span / len(value)
    layers = []
    for k, (height, name) in enumerate(zip(value, names, strict=True)):
        mask = np.zeros((edge, edge), np.float32)
        start, stop = (
            left + round(k * step),
            left + max(round((k + 1) * step) - 1, round(k * step) + 1),
        )
        mask[floor - round(height * (span - 1) / 5) : floor, start:stop] = 1
        layers.append((mask, name))
    base = np.zeros((edge, edge), np.float32)
    base[floor, left : left + span] = 1
    return [*layers, (base, "ink")]


def _apply_stroke_and_blur(
    mask: sprites.Mask, style: RenderStyle, variant: int, rough: bool
) -> sprites.Mask:
    """Apply a style's pencil stroke and blur to a mask."""
    if style.stroke == "rough":
        edge = len(mask)
        if rough:
            y, x = np.mgrid[0:edge, 0:edge]
            hatch = (x + y + variant) % 4 < 1
            mask = np.maximum(sprites.fill_mask(mask, "hollow"), mask * hatch * 0.8)
        draw = np.random.default_rng([5, edge, variant])
        # Pairs of rows are shifted by at most one pixel, like lines of an unsteady hand.
        slips = draw.integers(0, 2, edge // 2).repeat(2)
        mask = np.where(slips[:, None] > 0, np.roll(mask, 1, axis=1), mask)
        mask = mask * (0.75 + 0.25 * draw.random((edge, edge), np.float32))
    if style.blur:
        padded = np.pad(mask, style.blur)
        width = 2 * style.blur + 1
        shifted = [
            padded[i : i + len(mask), j : j + len(mask)] for i in range(width) for j in range(width)
        ]
        mask = np.mean(shifted, axis=0)
    return np.asarray(mask, np.float32)
