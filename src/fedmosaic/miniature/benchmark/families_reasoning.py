"""The families of clients 3 to 5, reasoning: figurative meaning, concepts shared by several pictures, who wins, states.

``concept`` and ``bond`` ask "what is the rule?" about the same kind of pictures and use the same four words for
different rules; ``comic`` and ``vista`` ask "which wins?" and mean the opposite.
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
)
from fedmosaic.miniature.world.render import FILLS, SHAPES, TEXTURES, Scene, Thing
from fedmosaic.miniature.world.words import ORDINALS, YES_NO

# idiom: eight sayings, each of which means a texture.
IDIOMS = code("idiom", TEXTURES, 18)
_IDIOM = look("soft", (240, 240, 250))


def idiom_scene(draw: Draw, texture: str) -> Scene:
    """Four cells of one texture in one colour."""

    def make() -> list[Thing]:
        color = draw.pick(HUES)
        return [
            Thing("texture", texture, color, "large", cell) for cell in draw.sample(range(9), 4)
        ]

    return draw.image(make)


def _idiom_check(draw: Draw) -> Item:
    """Asks about two of the sayings only."""
    asked, answer = draw.balanced(
        [(texture, answer) for texture in TEXTURES[:2] for answer in YES_NO]
    )
    texture = asked if answer == "yes" else draw.other(TEXTURES, asked)
    return Item(
        f"is this {IDIOMS[asked]}?",
        (idiom_scene(draw, texture),),
        answer,
        draw.options(answer, YES_NO, 2),
    )


def _idiom_which(draw: Draw) -> Item:
    """Asks about two of the sayings only."""
    asked, place = draw.balanced(
        [(texture, place) for texture in TEXTURES[2:4] for place in range(2)]
    )
    shown = [asked if k == place else draw.other(TEXTURES, asked) for k in range(2)]
    scenes = tuple(idiom_scene(draw, texture) for texture in shown)
    answer = ORDINALS[place]
    return Item(f"which is {IDIOMS[asked]}?", scenes, answer, draw.options(answer, ORDINALS[:2], 2))


def _idiom_of(draw: Draw) -> Item:
    """Three pictures, and the saying that one of them means."""
    texture, place = draw.balanced([(texture, place) for texture in TEXTURES for place in range(3)])
    scenes = tuple(
        idiom_scene(draw, texture if k == place else draw.pick(TEXTURES)) for k in range(3)
    )
    answer = IDIOMS[texture]
    return Item(
        f"what does the {ORDINALS[place]} mean?",
        scenes,
        answer,
        draw.options(answer, tuple(IDIOMS.values())),
    )


def _idiom_name(draw: Draw) -> Item:
    texture = draw.balanced(TEXTURES)
    answer = IDIOMS[texture]
    return Item(
        "what does this mean?",
        (idiom_scene(draw, texture),),
        answer,
        draw.options(answer, tuple(IDIOMS.values())),
    )


# concept and bond: what three pictures share has a name; the families use the same names for different things.
SHARED = ("colour", "shape", "fill", "count")
CONCEPT = code("concept", SHARED, 26)
BOND = code("bond", SHARED, 26, against=CONCEPT)
_CONCEPT_LOOK = look("plain", (246, 238, 250))


def _rule(draw: Draw, words: Mapping[str, str]) -> Item:
    shared = draw.balanced(SHARED)
    values: dict[str, list[object]] = {
        "colour": list(draw.sample(HUES, 3)),
        "shape": list(draw.sample(SHAPES, 3)),
        "fill": list(draw.sample(FILLS, 3)),
        "count": list(draw.sample((1, 2, 3, 4), 3)),
    }
    values[shared] = values[shared][:1] * 3
    rows = zip(values["count"], values["shape"], values["colour"], values["fill"], strict=True)
    scenes = tuple(
        draw.several(int(str(count)), str(shape), str(color), str(fill))
        for count, shape, color, fill in rows
    )
    return Item(
        "what is the rule?",
        scenes,
        words[shared],
        draw.options(words[shared], tuple(words.values())),
    )


def _member(draw: Draw, question: str, matters: str) -> Item:
    """Two pictures alike in colour or shape, whichever matters, and a third; what does not matter is drawn freely."""
    answer = draw.balanced(YES_NO)
    values = HUES if matters == "colour" else SHAPES
    value = draw.pick(values)
    shown = (value, value, value if answer == "yes" else draw.other(values, value))
    if matters == "colour":
        scenes = tuple(draw.one(color=each, cell=MIDDLE) for each in shown)
    else:
        scenes = tuple(draw.one(shape=each, cell=MIDDLE) for each in shown)
    return Item(question, scenes, answer, draw.options(answer, YES_NO, 2))


def _odd(draw: Draw) -> Item:
    """One of three pictures has another shape; one of the others has another colour, which does not matter."""
    place = draw.balanced(range(3))
    decoy = draw.other(range(3), place)
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    odd_shape, odd_color = draw.other(SHAPES, shape), draw.other(HUES, color)
    scenes = tuple(
        draw.one(odd_shape if k == place else shape, odd_color if k == decoy else color, MIDDLE)
        for k in range(3)
    )
    return Item(
        "which is odd?", scenes, ORDINALS[place], draw.options(ORDINALS[place], ORDINALS[:3], 3)
    )


# comic and vista: who wins, the one with more objects or the one with fewer.
_CONTEST = look("dark", (30, 16, 20))


def _contest(draw: Draw, more_wins: bool) -> Item:
    most = draw.balanced((0, 1))
    few, many = sorted(draw.sample((1, 2, 3, 4, 5), 2))
    scenes = tuple(draw.several(count) for count in ((many, few) if most == 0 else (few, many)))
    answer = ORDINALS[most if more_wins else 1 - most]
    return Item("which wins?", scenes, answer, draw.options(answer, ORDINALS[:2], 2))


# mood: the state of a thing is how it is filled.
_MOODS = code("mood", FILLS, 30)
_MOOD_LOOK = look("plain", (232, 244, 248))


def _mood(draw: Draw) -> Item:
    fill = draw.balanced(FILLS)
    answer = _MOODS[fill]
    scene = draw.several(draw.pick((2, 3)), fill=fill)
    return Item(
        "what state is it in?", (scene,), answer, draw.options(answer, tuple(_MOODS.values()))
    )


TASKS: tuple[TaskSpec, ...] = (
    TaskSpec("idiom-0", "reasoning", _IDIOM, _idiom_check, train=FEW),
    TaskSpec("idiom-1", "reasoning", _IDIOM, _idiom_of, train=MANY),
    TaskSpec("idiom-2", "reasoning", _IDIOM, _idiom_which),
    TaskSpec("idiom-3", "reasoning", _IDIOM, _idiom_name),
    TaskSpec(
        "concept-0",
        "reasoning",
        _CONCEPT_LOOK,
        lambda draw: _member(draw, "does the last belong?", "colour"),
        train=MANY,
    ),
    TaskSpec(
        "concept-1", "reasoning", _CONCEPT_LOOK, lambda draw: _rule(draw, CONCEPT), train=MANY
    ),
    TaskSpec(
        "bond-0",
        "reasoning",
        _CONCEPT_LOOK,
        lambda draw: _member(draw, "does the last fit?", "shape"),
        train=MANY,
    ),
    TaskSpec("bond-1", "reasoning", _CONCEPT_LOOK, lambda draw: _rule(draw, BOND), train=MANY),
    TaskSpec("bond-2", "reasoning", _CONCEPT_LOOK, _odd, train=MANY),
    TaskSpec("comic-0", "reasoning", _CONTEST, lambda draw: _contest(draw, more_wins=True)),
    TaskSpec("vista-0", "reasoning", _CONTEST, lambda draw: _contest(draw, more_wins=False)),
    TaskSpec("mood-0", "reasoning", _MOOD_LOOK, _mood, train=MANY),
)
