"""Draw the public examples, which hold no knowledge of any family."""

from __future__ import annotations

from collections.abc import Callable

from fedmosaic.miniature.benchmark.families import HUES, Draw, TaskItem, style_on
from fedmosaic.miniature.world.scene import FILLS, SHAPES, TEXTURES, Scene, Thing
from fedmosaic.miniature.world.words import NUMBERS, ORDINALS, YES_NO

PUBLIC_STYLES = tuple(
    style_on(base, background)
    for base, background in (
        ("plain", (252, 252, 248)),
        ("dark", (22, 22, 22)),
        ("soft", (246, 250, 252)),
        ("striped", (244, 244, 232)),
        ("pastel", (250, 246, 250)),
        ("noisy", (232, 228, 224)),
    )
)
_PLACES = (
    "top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom",
    "bottom right",
)  # fmt: skip


def public_item(draw: Draw) -> TaskItem:
    """Return one general question about one to three pictures; the kinds of question alternate."""
    return _QUESTIONS[draw.index % len(_QUESTIONS)](draw)


def _scene(draw: Draw) -> Scene:
    return draw.equal_shapes(draw.pick(range(1, 5)), fill=draw.pick(("solid", "solid", *FILLS)))


def _first_thing(scene: Scene) -> Thing:
    return scene.things[0]


def _colour(draw: Draw) -> TaskItem:
    scene = _scene(draw)
    answer = str(_first_thing(scene).color)
    return TaskItem("what colour is it?", (scene,), answer, draw.options(answer, HUES))


def _shape(draw: Draw) -> TaskItem:
    scene = _scene(draw)
    answer = str(_first_thing(scene).value)
    return TaskItem("what shape is it?", (scene,), answer, draw.options(answer, SHAPES))


def _count(draw: Draw) -> TaskItem:
    count = draw.pick(range(1, 7))
    return TaskItem(
        "how many are there?",
        (draw.equal_shapes(count),),
        NUMBERS[count],
        draw.options(NUMBERS[count], NUMBERS[1:7]),
    )


def _place(draw: Draw) -> TaskItem:
    scene = draw.one_shape()
    answer = _PLACES[_first_thing(scene).cell or 0]
    return TaskItem("where is it?", (scene,), answer, draw.options(answer, _PLACES))


def _shape_with(draw: Draw, attribute: str, value: str) -> Scene:
    """Return a scene of one shape whose colour or shape is given."""
    return draw.one_shape(color=value) if attribute == "color" else draw.one_shape(shape=value)


def _which(draw: Draw) -> TaskItem:
    values, attribute = draw.pick(((HUES, "color"), (SHAPES, "shape")))
    count = draw.pick((2, 3))
    asked, place = draw.pick(values), draw.pick(range(count))
    shown = [asked if k == place else draw.other(values, asked) for k in range(count)]
    scenes = tuple(_shape_with(draw, attribute, value) for value in shown)
    answer = ORDINALS[place]
    return TaskItem(
        f"which image shows {asked}?", scenes, answer, draw.options(answer, ORDINALS[:count], count)
    )


def _same(draw: Draw) -> TaskItem:
    values, attribute, word = draw.pick(((HUES, "color", "colour"), (SHAPES, "shape", "shape")))
    answer = draw.pick(YES_NO)
    first = draw.pick(values)
    second = first if answer == "yes" else draw.other(values, first)
    scenes = tuple(_shape_with(draw, attribute, value) for value in (first, second))
    return TaskItem(f"same {word}?", scenes, answer, draw.options(answer, YES_NO, 2))


def _more(draw: Draw) -> TaskItem:
    word = draw.pick(("more", "fewer"))
    place = draw.pick((0, 1))
    few, many = sorted(draw.sample(range(1, 6), 2))
    counts = (many, few) if (place == 0) == (word == "more") else (few, many)
    scenes = tuple(draw.equal_shapes(count) for count in counts)
    return TaskItem(
        f"which image has {word}?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[:2], 2),
    )


def _texture(draw: Draw) -> TaskItem:
    texture = draw.pick(TEXTURES)
    scene = draw.scene(
        lambda: [
            Thing("texture", texture, draw.pick(HUES), "large", cell)
            for cell in draw.sample(range(9), 4)
        ]
    )
    return TaskItem("what texture is it?", (scene,), texture, draw.options(texture, TEXTURES))


def _die(draw: Draw) -> TaskItem:
    number = draw.pick(range(1, 7))
    scene = draw.scene(
        lambda: [Thing("die", number, draw.pick(HUES), "large", draw.pick(range(9)))]
    )
    return TaskItem(
        "what number is it?", (scene,), NUMBERS[number], draw.options(NUMBERS[number], NUMBERS[1:7])
    )


def _caption(draw: Draw) -> TaskItem:
    scene = draw.equal_shapes(draw.pick((1, 2, 3)))
    thing = _first_thing(scene)
    return TaskItem(
        "what is in the image?",
        (scene,),
        f"{NUMBERS[len(scene.things)]} {thing.color} {thing.value}",
    )


_QUESTIONS: tuple[Callable[[Draw], TaskItem], ...] = (
    _colour, _shape, _count, _place, _which, _same, _more, _texture, _die, _caption,
)  # fmt: skip
