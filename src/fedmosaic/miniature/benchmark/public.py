"""General examples without any family's knowledge: what a federation may share in public."""

from __future__ import annotations

from collections.abc import Callable

from fedmosaic.miniature.benchmark.families import HUES, Draw, Item, look
from fedmosaic.miniature.world.render import FILLS, SHAPES, TEXTURES, Scene, Thing
from fedmosaic.miniature.world.words import NUMBERS, ORDINALS, YES_NO

PUBLIC_STYLES = tuple(
    look(base, background)
    for base, background in (
        ("plain", (252, 252, 248)),
        ("dark", (22, 22, 22)),
        ("soft", (246, 250, 252)),
        ("striped", (244, 244, 232)),
        ("pastel", (250, 246, 250)),
        ("noisy", (232, 228, 224)),
    )
)
_PLACES = dict(
    enumerate(
        (
            "top left",
            "top",
            "top right",
            "left",
            "middle",
            "right",
            "bottom left",
            "bottom",
            "bottom right",
        )
    )
)


def public_item(draw: Draw) -> Item:
    """One general question about one or two pictures; the kinds of question take turns."""
    return _QUESTIONS[draw.index % len(_QUESTIONS)](draw)


def _scene(draw: Draw) -> Scene:
    return draw.several(draw.pick(range(1, 5)), fill=draw.pick(("solid", "solid", *FILLS)))


def _named(scene: Scene) -> Thing:
    return scene.things[0]


def _colour(draw: Draw) -> Item:
    scene = _scene(draw)
    answer = str(_named(scene).color)
    return Item("what colour is it?", (scene,), answer, draw.options(answer, HUES))


def _shape(draw: Draw) -> Item:
    scene = _scene(draw)
    answer = str(_named(scene).value)
    return Item("what shape is it?", (scene,), answer, draw.options(answer, SHAPES))


def _count(draw: Draw) -> Item:
    count = draw.pick(range(1, 7))
    return Item(
        "how many are there?",
        (draw.several(count),),
        NUMBERS[count],
        draw.options(NUMBERS[count], NUMBERS[1:7]),
    )


def _place(draw: Draw) -> Item:
    scene = draw.one()
    answer = _PLACES[_named(scene).cell or 0]
    return Item("where is it?", (scene,), answer, draw.options(answer, tuple(_PLACES.values())))


def _one(draw: Draw, attribute: str, value: str) -> Scene:
    """A picture of one shape whose colour or shape is given."""
    return draw.one(color=value) if attribute == "color" else draw.one(shape=value)


def _which(draw: Draw) -> Item:
    values, attribute = draw.pick(((HUES, "color"), (SHAPES, "shape")))
    count = draw.pick((2, 3))
    asked, place = draw.pick(values), draw.pick(range(count))
    shown = [asked if k == place else draw.other(values, asked) for k in range(count)]
    scenes = tuple(_one(draw, attribute, value) for value in shown)
    answer = ORDINALS[place]
    return Item(
        f"which image shows {asked}?", scenes, answer, draw.options(answer, ORDINALS[:count], count)
    )


def _same(draw: Draw) -> Item:
    values, attribute, word = draw.pick(((HUES, "color", "colour"), (SHAPES, "shape", "shape")))
    answer = draw.pick(YES_NO)
    first = draw.pick(values)
    second = first if answer == "yes" else draw.other(values, first)
    scenes = tuple(_one(draw, attribute, value) for value in (first, second))
    return Item(f"same {word}?", scenes, answer, draw.options(answer, YES_NO, 2))


def _more(draw: Draw) -> Item:
    word = draw.pick(("more", "fewer"))
    place = draw.pick((0, 1))
    few, many = sorted(draw.sample(range(1, 6), 2))
    counts = (many, few) if (place == 0) == (word == "more") else (few, many)
    scenes = tuple(draw.several(count) for count in counts)
    return Item(
        f"which image has {word}?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[:2], 2),
    )


def _texture(draw: Draw) -> Item:
    texture = draw.pick(TEXTURES)
    scene = draw.image(
        lambda: [
            Thing("texture", texture, draw.pick(HUES), "large", cell)
            for cell in draw.sample(range(9), 4)
        ]
    )
    return Item("what texture is it?", (scene,), texture, draw.options(texture, TEXTURES))


def _die(draw: Draw) -> Item:
    number = draw.pick(range(1, 7))
    scene = draw.image(
        lambda: [Thing("die", number, draw.pick(HUES), "large", draw.pick(range(9)))]
    )
    return Item(
        "what number is it?", (scene,), NUMBERS[number], draw.options(NUMBERS[number], NUMBERS[1:7])
    )


def _caption(draw: Draw) -> Item:
    scene = draw.several(draw.pick((1, 2, 3)))
    thing = _named(scene)
    return Item(
        "what is in the image?",
        (scene,),
        f"{NUMBERS[len(scene.things)]} {thing.color} {thing.value}",
    )


_QUESTIONS: tuple[Callable[[Draw], Item], ...] = (
    _colour, _shape, _count, _place, _which, _same, _more, _texture, _die, _caption,
)  # fmt: skip
