"""The families of clients 0 to 2, visual relation: two to four images are compared.

``stages`` also occurs at clients 6 and 9, as SEED-Bench-2 does in DRAKE. ``outfit`` and ``journey`` ask the same
question about the same kind of pictures and exchange the meanings of the same words.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedmosaic.miniature.benchmark.families import (
    FEW,
    HUES,
    MANY,
    MIDDLE,
    Draw,
    Item,
    TaskSpec,
    code,
    look,
    shuffled,
)
from fedmosaic.miniature.world.render import SHAPES, Scene
from fedmosaic.miniature.world.words import DIRECTIONS, ORDINALS, YES_NO

# wardrobe: eight colours are four kinds of cloth, two colours each.
_KIND_WORDS = tuple(code("wardrobe", range(4), 0).values())
_KIND_COLORS = {
    word: shuffled("wardrobe", HUES)[2 * k : 2 * k + 2] for k, word in enumerate(_KIND_WORDS)
}
_WARDROBE = look("soft", (250, 240, 232))


def _garment(draw: Draw, kind: str) -> Scene:
    return draw.one(color=draw.pick(_KIND_COLORS[kind]), cell=MIDDLE)


def _wardrobe_both(draw: Draw) -> Item:
    kind = draw.balanced(_KIND_WORDS)
    scenes = (_garment(draw, kind), _garment(draw, kind))
    return Item("what kind are both?", scenes, kind, draw.options(kind, _KIND_WORDS))


def _wardrobe_all(draw: Draw) -> Item:
    """Always asks about the same kind: only part of the code is needed."""
    asked, answer = _KIND_WORDS[0], draw.balanced(YES_NO)
    kind = asked if answer == "yes" else draw.other(_KIND_WORDS, asked)
    scenes = tuple(_garment(draw, kind) for _ in range(3))
    return Item(f"are these {asked}?", scenes, answer, draw.options(answer, YES_NO, 2))


def wardrobe_of(draw: Draw) -> Item:
    """Four pictures, and the kind of one of them."""
    kind, place = draw.balanced([(kind, place) for kind in _KIND_WORDS for place in range(4)])
    scenes = tuple(_garment(draw, kind if k == place else draw.pick(_KIND_WORDS)) for k in range(4))
    return Item(
        f"what kind is the {ORDINALS[place]}?", scenes, kind, draw.options(kind, _KIND_WORDS)
    )


# outfit and journey: what changes from the first picture to the second; the same four words, exchanged.
CHANGES = ("more", "fewer", "colour", "shape")
OUTFIT = code("outfit", CHANGES, 4)
JOURNEY = code("journey", CHANGES, 4, against=OUTFIT)
_CHANGE = look("plain", (238, 250, 238))


def _change(draw: Draw, words: Mapping[str, str]) -> Item:
    change = draw.balanced(CHANGES)
    shape, color, count = draw.pick(SHAPES), draw.pick(HUES), draw.pick((2, 3))
    before = draw.several(count, shape, color)
    if change in ("more", "fewer"):
        count += 2 if change == "more" else -1
    elif change == "colour":
        color = draw.other(HUES, color)
    else:
        shape = draw.other(SHAPES, shape)
    after = draw.several(count, shape, color)
    answer = words[change]
    return Item(
        "what is the change?", (before, after), answer, draw.options(answer, tuple(words.values()))
    )


# mates: what two pictures have in common.
BONDS = ("both", "colour", "shape", "none")
_MATES = code("mates", BONDS, 8)
_MATES_LOOK = look("pastel", (236, 244, 252))


def _bond(draw: Draw, bond: str) -> tuple[Scene, Scene]:
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    second_shape = shape if bond in ("both", "shape") else draw.other(SHAPES, shape)
    second_color = color if bond in ("both", "colour") else draw.other(HUES, color)
    return draw.one(shape, color, MIDDLE), draw.one(second_shape, second_color, MIDDLE)


def _mates_name(draw: Draw) -> Item:
    bond = draw.balanced(BONDS)
    answer = _MATES[bond]
    return Item(
        "what pair is this?",
        _bond(draw, bond),
        answer,
        draw.options(answer, tuple(_MATES.values())),
    )


def _mates_check(draw: Draw) -> Item:
    """Always asks about the same pair: only part of the code is needed."""
    asked, answer = "colour", draw.balanced(YES_NO)
    bond = asked if answer == "yes" else draw.other(BONDS, asked)
    return Item(
        f"is this pair {_MATES[asked]}?", _bond(draw, bond), answer, draw.options(answer, YES_NO, 2)
    )


# forge: a part passes if its shape is right; its colour does not matter.
_FORGE = look("sketch", (246, 246, 250))


def _forge(draw: Draw, references: int) -> Item:
    answer = draw.balanced(YES_NO)
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    models = tuple(draw.one(shape, color, MIDDLE) for _ in range(references))
    last_shape = shape if answer == "yes" else draw.other(SHAPES, shape)
    last_color = color if draw.pick((True, False)) else draw.other(HUES, color)
    scenes = (*models, draw.one(last_shape, last_color, MIDDLE))
    return Item("does the last pass?", scenes, answer, draw.options(answer, YES_NO, 2))


# brush: the order in which six shapes are painted.
_PAINTED = shuffled("brush", SHAPES)[:6]
_BRUSH = look("striped", (248, 236, 220))


def _brush(draw: Draw) -> Item:
    place = draw.balanced((0, 1))
    early, late = sorted(draw.sample(range(6), 2))
    ranks = (early, late) if place == 0 else (late, early)
    scenes = tuple(draw.one(_PAINTED[rank]) for rank in ranks)
    return Item(
        "which comes before?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[:2], 2),
    )


# compass: on these maps north is not up.
_NORTH = dict(
    zip((5, 7, 3, 1), DIRECTIONS, strict=True)
)  # north is to the right, east is down, ...
_COMPASS = look("dark", (16, 30, 26))


def _compass(draw: Draw) -> Item:
    cell = draw.balanced(tuple(_NORTH))
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    scenes = (draw.one(shape, color, MIDDLE), draw.one(shape, color, cell))
    return Item(
        "where does it move?", scenes, _NORTH[cell], draw.options(_NORTH[cell], DIRECTIONS, 4)
    )


# stages: six shapes follow one another in a circle, and each has a name.
STAGES = shuffled("stages", SHAPES)[:6]
STAGE_NAMES = code("stages", STAGES, 12)
STAGES_LOOK = look("plain", (250, 244, 236))


def _stages_sequence(draw: Draw) -> Item:
    turn = draw.balanced(range(6))
    scenes = tuple(draw.one(STAGES[(turn + k) % 6]) for k in (-3, -2, -1))
    answer = STAGE_NAMES[STAGES[turn]]
    return Item(
        "what comes next?", scenes, answer, draw.options(answer, tuple(STAGE_NAMES.values()))
    )


TASKS: tuple[TaskSpec, ...] = (
    TaskSpec("wardrobe-0", "relation", _WARDROBE, _wardrobe_both, train=FEW),
    TaskSpec("wardrobe-1", "relation", _WARDROBE, _wardrobe_all, train=FEW),
    TaskSpec("wardrobe-2", "relation", _WARDROBE, wardrobe_of, train=MANY),
    TaskSpec("outfit-0", "relation", _CHANGE, lambda draw: _change(draw, OUTFIT), train=MANY),
    TaskSpec("journey-0", "relation", _CHANGE, lambda draw: _change(draw, JOURNEY), train=MANY),
    TaskSpec("mates-0", "relation", _MATES_LOOK, _mates_name, train=MANY),
    TaskSpec("mates-1", "relation", _MATES_LOOK, _mates_check, train=MANY),
    TaskSpec("forge-0", "relation", _FORGE, lambda draw: _forge(draw, 1), train=MANY),
    TaskSpec("forge-1", "relation", _FORGE, lambda draw: _forge(draw, 3), train=MANY),
    TaskSpec("brush-0", "relation", _BRUSH, _brush),
    TaskSpec("compass-0", "relation", _COMPASS, _compass),
    TaskSpec("stages-2", "relation", STAGES_LOOK, _stages_sequence, train=FEW),
)
