"""The seven tasks that no client trains on: four of new types, three in new styles, as DRAKE's two unseen lists.

``caption`` is in both lists, as Mantis is there. ``retrieve`` asks for the cloth kinds of ``wardrobe``: knowledge of
the federation in a look that nobody has seen.
"""

from __future__ import annotations

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
from fedmosaic.miniature.benchmark.families_relation import wardrobe_of
from fedmosaic.miniature.world.render import SHAPES, Scene, Thing
from fedmosaic.miniature.world.words import ORDINALS

# coherence: two clans of five shapes; three pictures show members of one clan, one of the other.
_CLANS = (shuffled("coherence", SHAPES)[:5], shuffled("coherence", SHAPES)[5:])


def _coherence(draw: Draw) -> Item:
    place = draw.balanced(range(4))
    clan = draw.pick((0, 1))
    members = draw.sample(_CLANS[clan], 3)
    members.insert(place, draw.pick(_CLANS[1 - clan]))
    scenes = tuple(draw.one(shape, cell=MIDDLE) for shape in members)
    return Item(
        "which breaks the set?", scenes, ORDINALS[place], draw.options(ORDINALS[place], ORDINALS, 4)
    )


# cloze: five colours follow one another in a circle; the one in the middle is to be named.
_CIRCLE = shuffled("cloze", HUES)[:5]
_CIRCLE_NAMES = code("cloze", _CIRCLE, 52)


def _cloze(draw: Draw) -> Item:
    turn = draw.balanced(range(5))
    answer = _CIRCLE_NAMES[_CIRCLE[turn]]
    scenes = (draw.one(color=_CIRCLE[turn - 1]), draw.one(color=_CIRCLE[(turn + 1) % 5]))
    return Item(
        "what comes between?", scenes, answer, draw.options(answer, tuple(_CIRCLE_NAMES.values()))
    )


# caption: five shapes have new names; which picture, or which name, fits.
_NAMED = shuffled("caption", SHAPES)[:5]
_CAPTIONS = code("caption", _NAMED, 57)


def _caption_which(draw: Draw) -> Item:
    shape, place = draw.balanced([(shape, place) for shape in _NAMED for place in range(2)])
    shown = [shape, draw.other(_NAMED, shape)] if place == 0 else [draw.other(_NAMED, shape), shape]
    scenes = tuple(draw.one(each) for each in shown)
    return Item(
        f"which shows {_CAPTIONS[shape]}?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[:2], 2),
    )


def _caption_name(draw: Draw) -> Item:
    shape = draw.balanced(_NAMED)
    answer = _CAPTIONS[shape]
    return Item(
        "what does it show?",
        (draw.one(shape),),
        answer,
        draw.options(answer, tuple(_CAPTIONS.values())),
    )


# edit: an arrow is turned; each turn has a name.
_TURNS = code("edit", ("none", "right", "back", "left"), 60)
_ARROWS = ("up", "right", "down", "left")


def _edit(draw: Draw) -> Item:
    turn, start = draw.balanced([(turn, start) for turn in range(4) for start in range(4)])
    color = draw.pick(HUES)

    def arrow(quarter: int) -> Scene:
        return draw.image(
            lambda: [Thing("arrow", _ARROWS[quarter % 4], color, "large", draw.pick(range(9)))]
        )

    answer = tuple(_TURNS.values())[turn]
    return Item(
        "what edit is this?",
        (arrow(start), arrow(start + turn)),
        answer,
        draw.options(answer, tuple(_TURNS.values())),
    )


# likeness: of two pictures, the one of the same shape is more like the first, whatever its colour.
def _likeness(draw: Draw) -> Item:
    place = draw.balanced((1, 2))
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    like = draw.one(shape, draw.other(HUES, color), MIDDLE)
    unlike = draw.one(draw.other(SHAPES, shape), color, MIDDLE)
    scenes = (draw.one(shape, color, MIDDLE), *((like, unlike) if place == 1 else (unlike, like)))
    return Item(
        "which is like the first?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[1:3], 2),
    )


TASKS: tuple[TaskSpec, ...] = (
    TaskSpec("coherence-0", "unseen", look("soft", (236, 250, 244)), _coherence, train=MANY),
    TaskSpec("cloze-0", "unseen", look("plain", (250, 250, 232)), _cloze, train=FEW),
    TaskSpec("caption-1", "unseen", look("striped", (240, 246, 236)), _caption_which, train=MANY),
    TaskSpec("edit-0", "unseen", look("dark", (24, 24, 40)), _edit, train=MANY),
    TaskSpec("likeness-0", "unseen", look("mosaic", (248, 240, 246)), _likeness, train=MANY),
    TaskSpec("caption-0", "unseen", look("dusk", (66, 52, 60)), _caption_name),
    TaskSpec("retrieve-0", "unseen", look("framed", (250, 244, 236)), wardrobe_of, train=MANY),
)
