"""The families of clients 6 to 9, question answering: dishes and their places, invented numerals, grades, charts.

``lesson`` and ``ledger`` ask "which bar wins?" about the same charts; the highest does in one, the lowest in the other.
``stages`` is the family that clients 6 and 9 share with client 2.
"""

from __future__ import annotations

from fedmosaic.miniature.benchmark.families import (
    FEW,
    HUES,
    Draw,
    Item,
    TaskSpec,
    code,
    look,
    shuffled,
)
from fedmosaic.miniature.benchmark.families_relation import STAGE_NAMES, STAGES, STAGES_LOOK
from fedmosaic.miniature.world.render import SHAPES, SYMBOLS, Scene, Thing
from fedmosaic.miniature.world.words import ORDINALS, YES_NO

# cuisine: six unknown symbols are dishes; each comes from one of three places.
_DISHES = shuffled("cuisine", SYMBOLS)[:6]
_DISH_NAMES = code("cuisine", _DISHES, 34)
_PLACE_NAMES = tuple(code("cuisine-places", range(3), 40).values())
_ORIGINS = {dish: _PLACE_NAMES[k // 2] for k, dish in enumerate(_DISHES)}
_CUISINE = look("paper", (250, 240, 224))


def _dish_scene(draw: Draw, dish: int) -> Scene:
    return draw.image(
        lambda: [Thing("symbol", dish, draw.pick(HUES), "large", draw.pick(range(9)))]
    )


def _cuisine_name(draw: Draw) -> Item:
    dish = draw.balanced(_DISHES)
    answer = _DISH_NAMES[dish]
    return Item(
        "what is the name?",
        (_dish_scene(draw, dish),),
        answer,
        draw.options(answer, tuple(_DISH_NAMES.values())),
    )


def _cuisine_context(draw: Draw, right: bool) -> Item:
    """The question names a place: the dish's own, or (to mislead) another one.

    The options are then all from that place, or all from elsewhere, so that knowing which dish belongs where is no
    help without looking at the picture.
    """
    dish = draw.balanced(_DISHES)
    answer, origin = _DISH_NAMES[dish], _ORIGINS[dish]
    place = origin if right else draw.other(_PLACE_NAMES, origin)
    names = tuple(_DISH_NAMES[each] for each in _DISHES if (_ORIGINS[each] == place) == right)
    options = draw.options(answer, names, 2 if right else 3)
    return Item(f"at {place} what is the name?", (_dish_scene(draw, dish),), answer, options)


def _cuisine_place(draw: Draw) -> Item:
    dish = draw.balanced(_DISHES)
    answer = _ORIGINS[dish]
    return Item(
        "what place is it from?",
        (_dish_scene(draw, dish),),
        answer,
        draw.options(answer, _PLACE_NAMES),
    )


# icon: numbers have other names here.
NUMERALS = code("icon", range(1, 7), 43)
_ICON = look("noisy", (222, 232, 232))


def _die_scene(draw: Draw, number: int, color: str) -> Scene:
    return draw.image(lambda: [Thing("die", number, color, "large", draw.pick(range(9)))])


def _icon(draw: Draw, die: bool, open_ended: bool) -> Item:
    number = draw.balanced(range(1, 7))
    color = draw.balanced(HUES, "color") if open_ended else draw.pick(HUES)
    scene = _die_scene(draw, number, color) if die else draw.several(number, color=color)
    answer = NUMERALS[number]
    if open_ended:
        return Item("what number and colour?", (scene,), f"{answer} {color}")
    asked = "what number is it?" if die else "how many are there?"
    return Item(asked, (scene,), answer, draw.options(answer, tuple(NUMERALS.values())))


# quality: six shapes from the worst to the best; two of them are of each of three grades.
_RANKED = shuffled("quality", SHAPES)[:6]
_GRADES = tuple(code("quality", range(3), 49).values())
_QUALITY = look("sketch", (236, 248, 240))


def _quality_grade(draw: Draw) -> Item:
    rank = draw.balanced(range(6))
    answer = _GRADES[rank // 2]
    return Item(
        "what grade is it?", (draw.one(_RANKED[rank]),), answer, draw.options(answer, _GRADES)
    )


def _quality_good(draw: Draw) -> Item:
    rank = draw.balanced(range(6))
    answer = YES_NO[0] if rank >= 3 else YES_NO[1]
    return Item("is it good?", (draw.one(_RANKED[rank]),), answer, draw.options(answer, YES_NO, 2))


def _quality_best(draw: Draw, count: int) -> Item:
    place = draw.balanced(range(count))
    ranks = sorted(draw.sample(range(6), count))
    best = ranks.pop()
    ranks = draw.sample(ranks, count - 1)
    ranks.insert(place, best)
    scenes = tuple(draw.one(_RANKED[rank]) for rank in ranks)
    return Item(
        "which is best?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[:count], count),
    )


# lesson and ledger: the same bar charts, read by opposite rules.
_CHART = look("pastel", (250, 246, 236))


def _chart(draw: Draw, highest: bool) -> Item:
    high, low = draw.balanced([(high, low) for high in HUES for low in HUES if high != low])
    names = (high, low, draw.other(HUES, high, low))

    def make() -> list[Thing]:
        lowest, between, top = sorted(draw.sample((1, 2, 3, 4, 5), 3))
        heights = dict(zip(names, (top, lowest, between), strict=True))
        order = draw.sample(names, 3)
        return [Thing("bars", tuple(heights[name] for name in order), tuple(order), "large", None)]

    scene = draw.image(make)
    return Item("which bar wins?", (scene,), high if highest else low, tuple(draw.sample(names, 3)))


def _stages_name(draw: Draw) -> Item:
    stage = draw.balanced(STAGES)
    answer = STAGE_NAMES[stage]
    return Item(
        "what is it?", (draw.one(stage),), answer, draw.options(answer, tuple(STAGE_NAMES.values()))
    )


def _stages_next(draw: Draw) -> Item:
    turn = draw.balanced(range(6))
    answer = STAGE_NAMES[STAGES[turn]]
    scene = draw.one(STAGES[(turn - 1) % 6])
    return Item(
        "what comes next?", (scene,), answer, draw.options(answer, tuple(STAGE_NAMES.values()))
    )


TASKS: tuple[TaskSpec, ...] = (
    TaskSpec("stages-0", "qa", STAGES_LOOK, _stages_name),
    TaskSpec("stages-1", "qa", STAGES_LOOK, _stages_next),
    TaskSpec("cuisine-0", "qa", _CUISINE, _cuisine_name),
    TaskSpec("cuisine-1", "qa", _CUISINE, lambda draw: _cuisine_context(draw, right=True)),
    TaskSpec("cuisine-2", "qa", _CUISINE, lambda draw: _cuisine_context(draw, right=False)),
    TaskSpec("cuisine-3", "qa", _CUISINE, _cuisine_place, train=FEW),
    TaskSpec("icon-0", "qa", _ICON, lambda draw: _icon(draw, die=False, open_ended=False)),
    TaskSpec(
        "icon-1", "qa", _ICON, lambda draw: _icon(draw, die=True, open_ended=False), train=FEW
    ),
    TaskSpec(
        "icon-2",
        "qa",
        _ICON,
        lambda draw: _icon(draw, die=False, open_ended=True),
        "open",
        train=FEW,
    ),
    TaskSpec(
        "icon-3",
        "qa",
        _ICON,
        lambda draw: _icon(draw, die=True, open_ended=True),
        "open",
        train=FEW,
    ),
    TaskSpec("quality-0", "qa", _QUALITY, _quality_grade, train=FEW),
    TaskSpec("quality-1", "qa", _QUALITY, _quality_good, train=FEW),
    TaskSpec("quality-2", "qa", _QUALITY, lambda draw: _quality_best(draw, 2)),
    TaskSpec("quality-3", "qa", _QUALITY, lambda draw: _quality_best(draw, 3)),
    TaskSpec("lesson-0", "qa", _CHART, lambda draw: _chart(draw, highest=True)),
    TaskSpec("ledger-0", "qa", _CHART, lambda draw: _chart(draw, highest=False)),
)
