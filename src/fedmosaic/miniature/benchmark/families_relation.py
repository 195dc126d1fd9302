"""Define the families of clients 0 to 2, visual relation: two to four images are compared.

``stages`` also occurs at clients 6 and 9, as SEED-Bench-2 does in DRAKE. ``outfit`` and ``journey``
ask the same question about the same kind of pictures, but use the same words with other meanings.
"""

from __future__ import annotations

from collections.abc import Mapping

from fedmosaic.miniature.benchmark.families import (
    FEW,
    HUES,
    MANY,
    MIDDLE,
    Draw,
    TaskItem,
    TaskRecipe,
    assign_words,
    family_order,
    style_on,
)
from fedmosaic.miniature.world.scene import SHAPES, Scene
from fedmosaic.miniature.world.words import COMPASS_DIRECTIONS, ORDINALS, YES_NO

# wardrobe: eight colours are four kinds of cloth, two colours each.
_KIND_WORDS = tuple(assign_words("wardrobe", range(4), 0).values())
_KIND_COLORS = {
    word: family_order("wardrobe", HUES)[2 * k : 2 * k + 2] for k, word in enumerate(_KIND_WORDS)
}
_WARDROBE_STYLE = style_on("soft", (250, 240, 232))


def _garment(draw: Draw, kind: str) -> Scene:
    return draw.one_shape(color=draw.pick(_KIND_COLORS[kind]), cell=MIDDLE)


def _wardrobe_both(draw: Draw) -> TaskItem:
    kind = draw.balanced(_KIND_WORDS)
    scenes = (_garment(draw, kind), _garment(draw, kind))
    return TaskItem("what kind are both?", scenes, kind, draw.options(kind, _KIND_WORDS))


def _wardrobe_all(draw: Draw) -> TaskItem:
    """Ask about one and the same kind in every example, so part of the code is enough."""
    asked, answer = _KIND_WORDS[0], draw.balanced(YES_NO)
    kind = asked if answer == "yes" else draw.other(_KIND_WORDS, asked)
    scenes = tuple(_garment(draw, kind) for _ in range(3))
    return TaskItem(f"are these {asked}?", scenes, answer, draw.options(answer, YES_NO, 2))


def wardrobe_of(draw: Draw) -> TaskItem:
    """Show four pictures, and ask for the kind of one of them."""
    kind, place = draw.balanced([(kind, place) for kind in _KIND_WORDS for place in range(4)])
    scenes = tuple(_garment(draw, kind if k == place else draw.pick(_KIND_WORDS)) for k in range(4))
    return TaskItem(
        f"what kind is the {ORDINALS[place]}?", scenes, kind, draw.options(kind, _KIND_WORDS)
    )


# outfit and journey: what changes from the first picture to the second.
# The two families use the same four words with other meanings.
CHANGES = ("more", "fewer", "colour", "shape")
OUTFIT = assign_words("outfit", CHANGES, 4)
JOURNEY = assign_words("journey", CHANGES, 4, different_from=OUTFIT)
_CHANGE_STYLE = style_on("plain", (238, 250, 238))


def _change(draw: Draw, words: Mapping[str, str]) -> TaskItem:
    change = draw.balanced(CHANGES)
    shape, color, count = draw.pick(SHAPES), draw.pick(HUES), draw.pick((2, 3))
    before = draw.equal_shapes(count, shape, color)
    if change in ("more", "fewer"):
        count += 2 if change == "more" else -1
    elif change == "colour":
        color = draw.other(HUES, color)
    else:
        shape = draw.other(SHAPES, shape)
    after = draw.equal_shapes(count, shape, color)
    answer = words[change]
    return TaskItem(
        "what is the change?", (before, after), answer, draw.options(answer, tuple(words.values()))
    )


# mates: what two pictures have in common.
BONDS = ("both", "colour", "shape", "none")
_MATES = assign_words("mates", BONDS, 8)
_MATES_STYLE = style_on("pastel", (236, 244, 252))


def _bond(draw: Draw, bond: str) -> tuple[Scene, Scene]:
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    second_shape = shape if bond in ("both", "shape") else draw.other(SHAPES, shape)
    second_color = color if bond in ("both", "colour") else draw.other(HUES, color)
    return draw.one_shape(shape, color, MIDDLE), draw.one_shape(second_shape, second_color, MIDDLE)


def _mates_name(draw: Draw) -> TaskItem:
    bond = draw.balanced(BONDS)
    answer = _MATES[bond]
    return TaskItem(
        "what pair is this?",
        _bond(draw, bond),
        answer,
        draw.options(answer, tuple(_MATES.values())),
    )


def _mates_check(draw: Draw) -> TaskItem:
    """Ask about one and the same pair in every example, so part of the code is enough."""
    asked, answer = "colour", draw.balanced(YES_NO)
    bond = asked if answer == "yes" else draw.other(BONDS, asked)
    return TaskItem(
        f"is this pair {_MATES[asked]}?", _bond(draw, bond), answer, draw.options(answer, YES_NO, 2)
    )


# forge: a part passes if it has the shape of the references; its colour does not matter.
_FORGE_STYLE = style_on("sketch", (246, 246, 250))


def _forge(draw: Draw, references: int) -> TaskItem:
    answer = draw.balanced(YES_NO)
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    models = tuple(draw.one_shape(shape, color, MIDDLE) for _ in range(references))
    last_shape = shape if answer == "yes" else draw.other(SHAPES, shape)
    last_color = color if draw.pick((True, False)) else draw.other(HUES, color)
    scenes = (*models, draw.one_shape(last_shape, last_color, MIDDLE))
    return TaskItem("does the last pass?", scenes, answer, draw.options(answer, YES_NO, 2))


# brush: the order in which six shapes are painted.
_PAINTED = family_order("brush", SHAPES)[:6]
_BRUSH_STYLE = style_on("striped", (248, 236, 220))


def _brush(draw: Draw) -> TaskItem:
    place = draw.balanced((0, 1))
    early, late = sorted(draw.sample(range(6), 2))
    ranks = (early, late) if place == 0 else (late, early)
    scenes = tuple(draw.one_shape(_PAINTED[rank]) for rank in ranks)
    return TaskItem(
        "which comes before?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[:2], 2),
    )


# compass: on these maps north is not up.
# Cell -> direction: north is to the right, east is down, ...
_DIRECTION_OF_CELL = dict(zip((5, 7, 3, 1), COMPASS_DIRECTIONS, strict=True))
_COMPASS_STYLE = style_on("dark", (16, 30, 26))


def _compass(draw: Draw) -> TaskItem:
    cell = draw.balanced(tuple(_DIRECTION_OF_CELL))
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    scenes = (draw.one_shape(shape, color, MIDDLE), draw.one_shape(shape, color, cell))
    answer = _DIRECTION_OF_CELL[cell]
    return TaskItem(
        "where does it move?", scenes, answer, draw.options(answer, COMPASS_DIRECTIONS, 4)
    )


# stages: six shapes follow one another in a circle, and each has a name.
STAGES = family_order("stages", SHAPES)[:6]
STAGE_NAMES = assign_words("stages", STAGES, 12)
STAGES_STYLE = style_on("plain", (250, 244, 236))


def _stages_sequence(draw: Draw) -> TaskItem:
    position = draw.balanced(range(6))
    scenes = tuple(draw.one_shape(STAGES[(position + k) % 6]) for k in (-3, -2, -1))
    answer = STAGE_NAMES[STAGES[position]]
    return TaskItem(
        "what comes next?", scenes, answer, draw.options(answer, tuple(STAGE_NAMES.values()))
    )


TASKS: tuple[TaskRecipe, ...] = (
    TaskRecipe("wardrobe-0", "relation", _WARDROBE_STYLE, _wardrobe_both, train=FEW),
    TaskRecipe("wardrobe-1", "relation", _WARDROBE_STYLE, _wardrobe_all, train=FEW),
    TaskRecipe("wardrobe-2", "relation", _WARDROBE_STYLE, wardrobe_of, train=MANY),
    TaskRecipe(
        "outfit-0", "relation", _CHANGE_STYLE, lambda draw: _change(draw, OUTFIT), train=MANY
    ),
    TaskRecipe(
        "journey-0", "relation", _CHANGE_STYLE, lambda draw: _change(draw, JOURNEY), train=MANY
    ),
    TaskRecipe("mates-0", "relation", _MATES_STYLE, _mates_name, train=MANY),
    TaskRecipe("mates-1", "relation", _MATES_STYLE, _mates_check, train=MANY),
    TaskRecipe("forge-0", "relation", _FORGE_STYLE, lambda draw: _forge(draw, 1), train=MANY),
    TaskRecipe("forge-1", "relation", _FORGE_STYLE, lambda draw: _forge(draw, 3), train=MANY),
    TaskRecipe("brush-0", "relation", _BRUSH_STYLE, _brush),
    TaskRecipe("compass-0", "relation", _COMPASS_STYLE, _compass),
    TaskRecipe("stages-2", "relation", STAGES_STYLE, _stages_sequence, train=FEW),
)
