"""Draw questions about one picture, for pretraining."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fedmosaic.miniature.pretraining.scenes import ARROWS, ScenePicture
from fedmosaic.miniature.world.scene import FILLS, SHAPES, SIZES, TEXTURES, Thing
from fedmosaic.miniature.world.styles import COLORS
from fedmosaic.miniature.world.words import NUMBERS, ORDINALS, YES_NO

CELL_NAMES: tuple[str, ...] = (
    "top left", "top", "top right", "left", "middle", "right", "bottom left", "bottom",
    "bottom right",
)  # fmt: skip
LETTERS: tuple[str, ...] = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")


@dataclass(frozen=True)
class MiniatureQuestion:
    """Hold one question about pictures.

    Attributes:
        skill: name of the skill that it needs, as in ``report.json``.
        text: the question, without image marks and options.
        answer: the answer.
        candidates: words that options are drawn from, the answer among them; empty if it can have
            no options.
    """

    skill: str
    text: str
    answer: str
    candidates: Sequence[str]


def number_of(picture: ScenePicture) -> int:
    """Return the number a picture shows: pips, dots, the hour, or else how many things it has."""
    first = picture.things[0]
    if picture.kind == "dice":
        return sum(int(str(thing.value)) for thing in picture.things)
    if picture.kind in ("die", "dots") and isinstance(first.value, int):
        return first.value
    if picture.kind == "clock" and isinstance(first.value, tuple):
        return first.value[0]
    return len(picture.things)


def caption(picture: ScenePicture) -> str:
    """Describe a picture in a few words: its things in reading order, with their places."""
    first, number = picture.things[0], NUMBERS[min(number_of(picture), 12)]
    tint = "" if first.color == "ink" or not isinstance(first.color, str) else f"{first.color} "
    if picture.kind == "single":
        return f"{first.size} {first.color} {first.fill} {first.value}{_where(first)}"
    if picture.kind == "several":
        return ", ".join(f"{thing.color} {thing.value}{_where(thing)}" for thing in picture.things)
    if picture.kind == "group":
        kinds = list(dict.fromkeys((thing.color, thing.value) for thing in picture.things))
        counts = [
            sum((thing.color, thing.value) == kind for thing in picture.things) for kind in kinds
        ]
        return ", ".join(
            f"{NUMBERS[n]} {color} {shape}" for n, (color, shape) in zip(counts, kinds, strict=True)
        )
    if picture.kind == "dice":
        return ", ".join(f"die {NUMBERS[int(str(thing.value))]}" for thing in picture.things)
    if picture.kind == "bars" and isinstance(first.value, tuple):
        bars = zip(first.color, first.value, strict=True)
        return ", ".join(f"{color} {NUMBERS[height]}" for color, height in bars)
    if picture.kind == "glyph":
        return f"{tint}sign {glyph_word(first)}{_where(first)}"
    if picture.kind == "symbol":
        return f"{tint}symbol{_where(first)}"
    if picture.kind in ("arrow", "texture"):
        return f"{tint}{picture.kind} {first.value}{_where(first)}"
    return f"{tint}{picture.kind} {number}{_where(first)}"


def _where(thing: Thing) -> str:
    return "" if thing.cell is None else f" {CELL_NAMES[thing.cell]}"


def glyph_word(thing: Thing) -> str:
    """Return a letter as it is, a digit as a number word."""
    value = str(thing.value)
    return NUMBERS[int(value)] if value.isdigit() else value


def draw_question(rng: random.Random, picture: ScenePicture) -> MiniatureQuestion:
    """Return a random question about ``picture``."""
    first = picture.things[0]
    if picture.kind in ("single", "several", "group"):
        question = {
            "single": _single_question,
            "several": _several_question,
            "group": _group_question,
        }[picture.kind](rng, picture)
    elif picture.kind == "dice":
        question = _dice_question(rng, picture)
    elif picture.kind == "bars":
        question = _bars_question(rng, first)
    else:
        question = _thing_question(rng, picture, first)
    return question


def _yes_or_no(condition: bool) -> str:
    return "yes" if condition else "no"


def _single_question(rng: random.Random, picture: ScenePicture) -> MiniatureQuestion:
    thing = picture.things[0]
    color, shape = str(thing.color), str(thing.value)
    roll = rng.random()
    if roll < 0.22:
        return MiniatureQuestion(
            "colour",
            rng.choice(("what colour is it?", "what colour is this object?")),
            color,
            COLORS,
        )
    if roll < 0.44:
        return MiniatureQuestion(
            "shape", rng.choice(("what shape is it?", "which shape is this?")), shape, SHAPES
        )
    if roll < 0.51:
        return MiniatureQuestion("size", "what size is it?", thing.size, tuple(SIZES))
    if roll < 0.66:
        return MiniatureQuestion("fill", "what fill is it?", thing.fill, FILLS)
    if roll < 0.78 and thing.cell is not None:
        return MiniatureQuestion("place", "where is it?", CELL_NAMES[thing.cell], CELL_NAMES)
    if roll < 0.89:
        asked = color if rng.random() < 0.5 else rng.choice(COLORS)
        return MiniatureQuestion("yes-no", f"is it {asked}?", _yes_or_no(asked == color), YES_NO)
    asked = shape if rng.random() < 0.5 else rng.choice(SHAPES)
    return MiniatureQuestion("yes-no", f"is it a {asked}?", _yes_or_no(asked == shape), YES_NO)


def _several_question(rng: random.Random, picture: ScenePicture) -> MiniatureQuestion:
    things = list(picture.things)
    thing, other = rng.sample(things, 2)
    color, shape = str(thing.color), str(thing.value)
    assert thing.cell is not None and other.cell is not None
    roll = rng.random()
    if roll < 0.2:
        return MiniatureQuestion("colour-of", f"what colour is the {shape}?", color, COLORS)
    if roll < 0.4:
        return MiniatureQuestion("shape-of", f"what shape is {color}?", shape, SHAPES)
    if roll < 0.52:
        return MiniatureQuestion(
            "place-of", f"where is the {shape}?", CELL_NAMES[thing.cell], CELL_NAMES
        )
    if roll < 0.64:
        return MiniatureQuestion(
            "shape-at", f"what shape is {CELL_NAMES[thing.cell]}?", shape, SHAPES
        )
    if roll < 0.74:
        return MiniatureQuestion("count", "how many objects?", NUMBERS[len(things)], NUMBERS[1:10])
    if roll < 0.86:
        asked = (
            color
            if rng.random() < 0.5
            else rng.choice([str(entry.color) for entry in things] + list(COLORS[:2]))
        )
        return MiniatureQuestion(
            "yes-no-of", f"is there a {asked} {shape}?", _yes_or_no(asked == color), YES_NO
        )
    across = thing.cell % 3 - other.cell % 3
    down = thing.cell // 3 - other.cell // 3
    if across and (not down or rng.random() < 0.5):
        side = "left" if across < 0 else "right"
        return MiniatureQuestion(
            "relation", f"which side is the {shape} of the {other.value}?", side, ("left", "right")
        )
    side = "above" if down < 0 else "below"
    return MiniatureQuestion(
        "relation", f"is the {shape} above or below the {other.value}?", side, ("above", "below")
    )


def _group_question(rng: random.Random, picture: ScenePicture) -> MiniatureQuestion:
    kinds = list(dict.fromkeys((thing.color, thing.value) for thing in picture.things))
    color, shape = rng.choice(kinds)
    count = sum((thing.color, thing.value) == (color, shape) for thing in picture.things)
    roll = rng.random()
    if roll < 0.4:
        return MiniatureQuestion(
            "count", "how many objects?", NUMBERS[len(picture.things)], NUMBERS[1:10]
        )
    if roll < 0.6:
        return MiniatureQuestion(
            "count-of", f"how many {color} objects?", NUMBERS[count], NUMBERS[:10]
        )
    if roll < 0.8 or len(kinds) == 1:
        asked = shape if rng.random() < 0.85 else rng.choice(SHAPES)
        found = sum(thing.value == asked for thing in picture.things)
        return MiniatureQuestion(
            "count-of", f"how many {asked} objects?", NUMBERS[found], NUMBERS[:10]
        )
    rest = len(picture.things) - count
    most = str((kinds[0] if (count > rest) == ((color, shape) == kinds[0]) else kinds[1])[0])
    if count == rest:
        return MiniatureQuestion(
            "count-of", f"how many {color} objects?", NUMBERS[count], NUMBERS[:10]
        )
    return MiniatureQuestion(
        "more", "which colour has more objects?", most, [str(kind[0]) for kind in kinds]
    )


def _dice_question(rng: random.Random, picture: ScenePicture) -> MiniatureQuestion:
    left, right = (int(str(thing.value)) for thing in picture.things)
    roll = rng.random()
    if roll < 0.5:
        return MiniatureQuestion("sum", "what is the sum?", NUMBERS[left + right], NUMBERS[2:])
    if roll < 0.75 or left == right:
        return MiniatureQuestion(
            "yes-no", "is it the same number?", _yes_or_no(left == right), YES_NO
        )
    k = rng.randrange(2)
    return MiniatureQuestion(
        "die", f"what number is the {ORDINALS[k]} die?", NUMBERS[(left, right)[k]], NUMBERS[1:7]
    )


def _bars_question(rng: random.Random, thing: Thing) -> MiniatureQuestion:
    assert isinstance(thing.value, tuple)
    heights, colors = list(thing.value), list(thing.color)
    names = colors if len(set(colors)) > 1 else list(ORDINALS[: len(heights)])
    if names is colors and rng.random() < 0.3:
        names = list(ORDINALS[: len(heights)])
    k = rng.randrange(len(heights))
    roll = rng.random()
    if roll < 0.36:
        return MiniatureQuestion(
            "bars", "which bar is highest?", names[heights.index(max(heights))], names
        )
    if roll < 0.64:
        return MiniatureQuestion(
            "bars", "which bar is lowest?", names[heights.index(min(heights))], names
        )
    if roll < 0.9:
        return MiniatureQuestion(
            "bar-height", f"what number is the {names[k]} bar?", NUMBERS[heights[k]], NUMBERS[1:6]
        )
    return MiniatureQuestion("count", "how many bars?", NUMBERS[len(heights)], NUMBERS[1:6])


def _thing_question(rng: random.Random, picture: ScenePicture, thing: Thing) -> MiniatureQuestion:
    if thing.color != "ink" and rng.random() < 0.15:
        return MiniatureQuestion("colour", "what colour is it?", str(thing.color), COLORS)
    if thing.cell is not None and rng.random() < 0.12:
        return MiniatureQuestion("place", "where is it?", CELL_NAMES[thing.cell], CELL_NAMES)
    if picture.kind == "glyph":
        word = glyph_word(thing)
        return MiniatureQuestion(
            "sign", "which sign is it?", word, NUMBERS[:10] if word in NUMBERS else LETTERS
        )
    if picture.kind == "arrow":
        return MiniatureQuestion("arrow", "where does it point?", str(thing.value), ARROWS)
    if picture.kind == "texture":
        return MiniatureQuestion("texture", "what texture is it?", str(thing.value), TEXTURES)
    if picture.kind == "symbol":
        kinds = ("symbol", "sign", "die", "clock", "object")
        return MiniatureQuestion("kind", "what kind is it?", "symbol", kinds)
    text = {
        "die": ("what number does the die show?", "how many dots?"),
        "dots": ("how many dots?", "what number is it?"),
        "clock": ("what time is it?", "what number does the clock show?"),
    }[picture.kind]
    return MiniatureQuestion(
        picture.kind, rng.choice(text), NUMBERS[number_of(picture)], NUMBERS[1:]
    )
