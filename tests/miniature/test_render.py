"""Test the renderer: deterministic, fast, one picture for one content, clear errors."""

from __future__ import annotations

import time

import numpy as np
import pytest

from fedmosaic.errors import DataError
from fedmosaic.miniature.world.render import _sprite as sprite
from fedmosaic.miniature.world.render import render
from fedmosaic.miniature.world.scene import GLYPHS, SHAPES, SYMBOLS, Scene, Thing
from fedmosaic.miniature.world.styles import COLORS, HELD_OUT_STYLES, STYLES, TRAINED_STYLES

MIXED = Scene(
    (
        Thing("shape", "star", "red", cell=0),
        Thing("die", 5, cell=4),
        Thing("clock", (3, 0), cell=8),
    ),
    seed=2,
)


@pytest.mark.parametrize("style", STYLES)
def test_same_scene_same_bytes_even_when_drawn_anew(style):
    first = render(MIXED, style)
    sprite.cache_clear()
    assert first.shape == (60, 60, 3) and first.dtype == np.uint8
    assert np.array_equal(first, render(MIXED, style))


def test_styles_look_different():
    pictures = [render(MIXED, style).tobytes() for style in STYLES]
    assert len(set(pictures)) == len(STYLES) >= 12
    assert set(TRAINED_STYLES) | set(HELD_OUT_STYLES) == set(STYLES) and len(HELD_OUT_STYLES) >= 3


def test_noise_follows_the_seed():
    one, other = (render(Scene(MIXED.things, seed), "noisy") for seed in (0, 1))
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("cell", range(9))
def test_a_thing_stays_in_its_cell(cell):
    blank = render(Scene(()), "plain")
    for shift in ((-2, -2), (2, 2)):
        changed = (render(Scene((Thing("die", 9, cell=cell, shift=shift),)), "plain") != blank).any(
            -1
        )
        rows, columns = np.nonzero(changed)
        assert set(rows // 20 * 3 + columns // 20) == {cell}


def test_every_value_has_its_own_picture():
    def distinct(things):
        return len({render(Scene((thing,)), "plain").tobytes() for thing in things}) == len(things)

    assert distinct([Thing("shape", shape, color) for shape in SHAPES for color in COLORS])
    assert distinct([Thing("symbol", index) for index in SYMBOLS])
    assert distinct([Thing("glyph", char) for char in GLYPHS])
    assert distinct([Thing("clock", (hour, 0), cell=None) for hour in range(1, 13)])
    assert distinct([Thing("bars", (a, b, 3), cell=None) for a in range(6) for b in range(6)])


def test_ten_thousand_pictures_a_second():
    rng = np.random.default_rng(0)
    scenes = []
    for k in range(1000):
        cells = rng.permutation(9)[:3].tolist()
        scenes.append(
            Scene(
                tuple(
                    Thing("shape", SHAPES[k % 10], COLORS[k * 7 % 10], cell=cell) for cell in cells
                ),
                k,
            )
        )
    for style in ("plain", "noisy"):
        [render(scene, style) for scene in scenes]
        best = min(_seconds(scenes, style) for _ in range(3))
        assert len(scenes) / best > 10_000


def _seconds(scenes, style):
    start = time.process_time()
    for scene in scenes:
        render(scene, style)
    return time.process_time() - start


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        (Thing("shape", "stra"), "stra"),
        (Thing("shapes", "star"), "'shape'"),
        (Thing("shape", "star", "rad"), "'red'"),
        (Thing("shape", "star", size="big"), "size"),
        (Thing("shape", "star", fill="full"), "fill"),
        (Thing("shape", "star", cell=9), "0 to 8"),
        (Thing("shape", "star", shift=(3, 0)), "shift"),
        (Thing("die", 10), "10"),
        (Thing("bars", (6,)), "bars"),
        (Thing("bars", (1, 2), ("red",)), "bars"),
    ],
)
def test_unknown_words_are_named(thing, words):
    with pytest.raises(DataError, match=words):
        render(Scene((thing,)))


def test_unknown_style_gets_a_hint():
    with pytest.raises(DataError, match="'sketch'"):
        render(Scene(()), "sketchy")
