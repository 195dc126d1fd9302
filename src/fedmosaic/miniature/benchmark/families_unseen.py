"""Define the seven tasks that no client trains on: four of new types, three in new styles.

They correspond to DRAKE's two lists of unseen tasks. ``caption`` is in both lists, as Mantis is in
DRAKE's. ``retrieve`` asks about the cloth kinds of ``wardrobe``, which some clients know, in a
style that none has seen.
"""

from __future__ import annotations

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
from fedmosaic.miniature.benchmark.families_relation import wardrobe_of
from fedmosaic.miniature.world.scene import SHAPES, Scene, Thing
from fedmosaic.miniature.world.words import ORDINALS

# coherence: two clans of five shapes; three pictures show members of one clan, one of the other.
_CLANS = (family_order("coherence", SHAPES)[:5], family_order("coherence", SHAPES)[5:])


def _coherence(draw: Draw) -> TaskItem:
    place = draw.balanced(range(4))
    clan = draw.pick((0, 1))
    members = draw.sample(_CLANS[clan], 3)
    members.insert(place, draw.pick(_CLANS[1 - clan]))
    scenes = tuple(draw.one_shape(shape, cell=MIDDLE) for shape in members)
    return TaskItem(
        "which breaks the set?", scenes, ORDINALS[place], draw.options(ORDINALS[place], ORDINALS, 4)
    )


# cloze: five colours follow one another in a circle; the answer names the one in between.
_CIRCLE = family_order("cloze", HUES)[:5]
_CIRCLE_NAMES = assign_words("cloze", _CIRCLE, 52)


def _cloze(draw: Draw) -> TaskItem:
    position = draw.balanced(range(5))
    answer = _CIRCLE_NAMES[_CIRCLE[position]]
    scenes = (
        draw.one_shape(color=_CIRCLE[position - 1]),
        draw.one_shape(color=_CIRCLE[(position + 1) % 5]),
    )
    return TaskItem(
        "what comes between?", scenes, answer, draw.options(answer, tuple(_CIRCLE_NAMES.values()))
    )


# caption: five shapes have new names; the answer is the picture or the name that fits.
_NAMED = family_order("caption", SHAPES)[:5]
_CAPTIONS = assign_words("caption", _NAMED, 57)


def _caption_which(draw: Draw) -> TaskItem:
    shape, place = draw.balanced([(shape, place) for shape in _NAMED for place in range(2)])
    shown = [shape, draw.other(_NAMED, shape)] if place == 0 else [draw.other(_NAMED, shape), shape]
    scenes = tuple(draw.one_shape(each) for each in shown)
    return TaskItem(
        f"which shows {_CAPTIONS[shape]}?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[:2], 2),
    )


def _caption_name(draw: Draw) -> TaskItem:
    shape = draw.balanced(_NAMED)
    answer = _CAPTIONS[shape]
    return TaskItem(
        "what does it show?",
        (draw.one_shape(shape),),
        answer,
        draw.options(answer, tuple(_CAPTIONS.values())),
    )


# edit: an arrow is rotated; each rotation has a name.
_ROTATIONS = assign_words("edit", ("none", "right", "back", "left"), 60)
_ARROWS = ("up", "right", "down", "left")


def _edit(draw: Draw) -> TaskItem:
    rotation, start = draw.balanced([(turns, start) for turns in range(4) for start in range(4)])
    color = draw.pick(HUES)

    def arrow(quarter: int) -> Scene:
        return draw.scene(
            lambda: [Thing("arrow", _ARROWS[quarter % 4], color, "large", draw.pick(range(9)))]
        )

    answer = tuple(_ROTATIONS.values())[rotation]
    return TaskItem(
        "what edit is this?",
        (arrow(start), arrow(start + rotation)),
        answer,
        draw.options(answer, tuple(_ROTATIONS.values())),
    )


# likeness: a picture of the same shape is more like the first than one of the same colour.
def _likeness(draw: Draw) -> TaskItem:
    place = draw.balanced((1, 2))
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    like = draw.one_shape(shape, draw.other(HUES, color), MIDDLE)
    unlike = draw.one_shape(draw.other(SHAPES, shape), color, MIDDLE)
    scenes = (
        draw.one_shape(shape, color, MIDDLE),
        *((like, unlike) if place == 1 else (unlike, like)),
    )
    return TaskItem(
        "which is like the first?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[1:3], 2),
    )


TASKS: tuple[TaskRecipe, ...] = (
    TaskRecipe("coherence-0", "unseen", style_on("soft", (236, 250, 244)), _coherence, train=MANY),
    TaskRecipe("cloze-0", "unseen", style_on("plain", (250, 250, 232)), _cloze, train=FEW),
    TaskRecipe(
        "caption-1", "unseen", style_on("striped", (240, 246, 236)), _caption_which, train=MANY
    ),
    TaskRecipe("edit-0", "unseen", style_on("dark", (24, 24, 40)), _edit, train=MANY),
    TaskRecipe("likeness-0", "unseen", style_on("mosaic", (248, 240, 246)), _likeness, train=MANY),
    TaskRecipe("caption-0", "unseen", style_on("dusk", (66, 52, 60)), _caption_name),
    TaskRecipe(
        "retrieve-0", "unseen", style_on("framed", (250, 244, 236)), wardrobe_of, train=MANY
    ),
)
