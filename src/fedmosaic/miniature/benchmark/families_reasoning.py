"""Define the families of clients 3 to 5, reasoning.

They are about figurative meaning, concepts that several pictures share, contests, and states.
``concept`` and ``bond`` ask "what is the rule?" about the same kind of pictures and use the same
four words for different rules. ``comic`` and ``vista`` ask "which wins?" and mean the opposite.
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
    style_on,
)
from fedmosaic.miniature.world.scene import FILLS, SHAPES, TEXTURES, Scene, Thing
from fedmosaic.miniature.world.words import ORDINALS, YES_NO

# idiom: eight sayings, each of which stands for a texture.
IDIOMS = assign_words("idiom", TEXTURES, 18)
_IDIOM_STYLE = style_on("soft", (240, 240, 250))


def idiom_scene(draw: Draw, texture: str) -> Scene:
    """Return a scene with four cells of one texture in one colour."""

    def make() -> list[Thing]:
        color = draw.pick(HUES)
        return [
            Thing("texture", texture, color, "large", cell) for cell in draw.sample(range(9), 4)
        ]

    return draw.scene(make)


def _idiom_check(draw: Draw) -> TaskItem:
    """Ask yes or no about two of the sayings."""
    asked, answer = draw.balanced(
        [(texture, answer) for texture in TEXTURES[:2] for answer in YES_NO]
    )
    texture = asked if answer == "yes" else draw.other(TEXTURES, asked)
    return TaskItem(
        f"is this {IDIOMS[asked]}?",
        (idiom_scene(draw, texture),),
        answer,
        draw.options(answer, YES_NO, 2),
    )


def _idiom_which(draw: Draw) -> TaskItem:
    """Ask which picture shows one of two of the sayings."""
    asked, place = draw.balanced(
        [(texture, place) for texture in TEXTURES[2:4] for place in range(2)]
    )
    shown = [asked if k == place else draw.other(TEXTURES, asked) for k in range(2)]
    scenes = tuple(idiom_scene(draw, texture) for texture in shown)
    answer = ORDINALS[place]
    return TaskItem(
        f"which is {IDIOMS[asked]}?", scenes, answer, draw.options(answer, ORDINALS[:2], 2)
    )


def _idiom_of(draw: Draw) -> TaskItem:
    """Show three pictures, and ask for the saying that one of them means."""
    texture, place = draw.balanced([(texture, place) for texture in TEXTURES for place in range(3)])
    scenes = tuple(
        idiom_scene(draw, texture if k == place else draw.pick(TEXTURES)) for k in range(3)
    )
    answer = IDIOMS[texture]
    return TaskItem(
        f"what does the {ORDINALS[place]} mean?",
        scenes,
        answer,
        draw.options(answer, tuple(IDIOMS.values())),
    )


def _idiom_name(draw: Draw) -> TaskItem:
    texture = draw.balanced(TEXTURES)
    answer = IDIOMS[texture]
    return TaskItem(
        "what does this mean?",
        (idiom_scene(draw, texture),),
        answer,
        draw.options(answer, tuple(IDIOMS.values())),
    )


# concept and bond: what three pictures share has a name.
# The two families use the same names for different things.
SHARED = ("colour", "shape", "fill", "count")
CONCEPT = assign_words("concept", SHARED, 26)
BOND = assign_words("bond", SHARED, 26, different_from=CONCEPT)
_CONCEPT_STYLE = style_on("plain", (246, 238, 250))


def _rule(draw: Draw, words: Mapping[str, str]) -> TaskItem:
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
        draw.equal_shapes(int(str(count)), str(shape), str(color), str(fill))
        for count, shape, color, fill in rows
    )
    return TaskItem(
        "what is the rule?",
        scenes,
        words[shared],
        draw.options(words[shared], tuple(words.values())),
    )


def _member(draw: Draw, question: str, matters: str) -> TaskItem:
    """Show two pictures with the same colour or shape, and ask if a third one has it, too.

    Args:
        draw: draws the example.
        question: text of the question.
        matters: ``"colour"`` or ``"shape"``; the other one is drawn for each picture.
    """
    answer = draw.balanced(YES_NO)
    values = HUES if matters == "colour" else SHAPES
    value = draw.pick(values)
    shown = (value, value, value if answer == "yes" else draw.other(values, value))
    if matters == "colour":
        scenes = tuple(draw.one_shape(color=each, cell=MIDDLE) for each in shown)
    else:
        scenes = tuple(draw.one_shape(shape=each, cell=MIDDLE) for each in shown)
    return TaskItem(question, scenes, answer, draw.options(answer, YES_NO, 2))


def _odd_one_out(draw: Draw) -> TaskItem:
    """Ask which of three pictures has another shape.

    One of the other two has another colour, which does not matter.
    """
    place = draw.balanced(range(3))
    decoy = draw.other(range(3), place)
    shape, color = draw.pick(SHAPES), draw.pick(HUES)
    odd_shape, odd_color = draw.other(SHAPES, shape), draw.other(HUES, color)
    scenes = tuple(
        draw.one_shape(
            odd_shape if k == place else shape, odd_color if k == decoy else color, MIDDLE
        )
        for k in range(3)
    )
    return TaskItem(
        "which is odd?", scenes, ORDINALS[place], draw.options(ORDINALS[place], ORDINALS[:3], 3)
    )


# comic and vista: the picture with more objects wins, or the one with fewer.
_CONTEST_STYLE = style_on("dark", (30, 16, 20))


def _contest(draw: Draw, more_wins: bool) -> TaskItem:
    most = draw.balanced((0, 1))
    few, many = sorted(draw.sample((1, 2, 3, 4, 5), 2))
    scenes = tuple(
        draw.equal_shapes(count) for count in ((many, few) if most == 0 else (few, many))
    )
    answer = ORDINALS[most if more_wins else 1 - most]
    return TaskItem("which wins?", scenes, answer, draw.options(answer, ORDINALS[:2], 2))


# mood: the state of a thing is how it is filled.
_MOODS = assign_words("mood", FILLS, 30)
_MOOD_STYLE = style_on("plain", (232, 244, 248))


def _mood(draw: Draw) -> TaskItem:
    fill = draw.balanced(FILLS)
    answer = _MOODS[fill]
    scene = draw.equal_shapes(draw.pick((2, 3)), fill=fill)
    return TaskItem(
        "what state is it in?", (scene,), answer, draw.options(answer, tuple(_MOODS.values()))
    )


TASKS: tuple[TaskRecipe, ...] = (
    TaskRecipe("idiom-0", "reasoning", _IDIOM_STYLE, _idiom_check, train=FEW),
    TaskRecipe("idiom-1", "reasoning", _IDIOM_STYLE, _idiom_of, train=MANY),
    TaskRecipe("idiom-2", "reasoning", _IDIOM_STYLE, _idiom_which),
    TaskRecipe("idiom-3", "reasoning", _IDIOM_STYLE, _idiom_name),
    TaskRecipe(
        "concept-0",
        "reasoning",
        _CONCEPT_STYLE,
        lambda draw: _member(draw, "does the last belong?", "colour"),
        train=MANY,
    ),
    TaskRecipe(
        "concept-1", "reasoning", _CONCEPT_STYLE, lambda draw: _rule(draw, CONCEPT), train=MANY
    ),
    TaskRecipe(
        "bond-0",
        "reasoning",
        _CONCEPT_STYLE,
        lambda draw: _member(draw, "does the last fit?", "shape"),
        train=MANY,
    ),
    TaskRecipe("bond-1", "reasoning", _CONCEPT_STYLE, lambda draw: _rule(draw, BOND), train=MANY),
    TaskRecipe("bond-2", "reasoning", _CONCEPT_STYLE, _odd_one_out, train=MANY),
    TaskRecipe("comic-0", "reasoning", _CONTEST_STYLE, lambda draw: _contest(draw, more_wins=True)),
    TaskRecipe(
        "vista-0", "reasoning", _CONTEST_STYLE, lambda draw: _contest(draw, more_wins=False)
    ),
    TaskRecipe("mood-0", "reasoning", _MOOD_STYLE, _mood, train=MANY),
)
