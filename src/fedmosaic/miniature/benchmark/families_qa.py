"""Define the families of clients 6 to 9, question answering.

They are about dishes and their origin, invented numerals, grades, and bar charts. ``lesson`` and
``ledger`` ask "which bar wins?" about the same charts; the answer is the highest bar in one and the
lowest in the other. ``stages`` is the family that clients 6 and 9 share with client 2.
"""

from __future__ import annotations

from fedmosaic.miniature.benchmark.families import (
    FEW,
    HUES,
    Draw,
    TaskItem,
    TaskRecipe,
    assign_words,
    family_order,
    style_on,
)
from fedmosaic.miniature.benchmark.families_relation import STAGE_NAMES, STAGES, STAGES_STYLE
from fedmosaic.miniature.world.scene import SHAPES, SYMBOLS, Scene, Thing
from fedmosaic.miniature.world.words import ORDINALS, YES_NO

# cuisine: six unknown symbols are dishes, and each comes from one of three places.
_DISHES = family_order("cuisine", SYMBOLS)[:6]
_DISH_NAMES = assign_words("cuisine", _DISHES, 34)
_PLACE_NAMES = tuple(assign_words("cuisine-places", range(3), 40).values())
_ORIGINS = {dish: _PLACE_NAMES[k // 2] for k, dish in enumerate(_DISHES)}
_CUISINE_STYLE = style_on("paper", (250, 240, 224))


def _dish_scene(draw: Draw, dish: int) -> Scene:
    return draw.scene(
        lambda: [Thing("symbol", dish, draw.pick(HUES), "large", draw.pick(range(9)))]
    )


def _cuisine_name(draw: Draw) -> TaskItem:
    dish = draw.balanced(_DISHES)
    answer = _DISH_NAMES[dish]
    return TaskItem(
        "what is the name?",
        (_dish_scene(draw, dish),),
        answer,
        draw.options(answer, tuple(_DISH_NAMES.values())),
    )


def _cuisine_context(draw: Draw, right: bool) -> TaskItem:
    """Ask for a dish's name with a place in the question.

    Args:
        draw: draws the example.
        right: whether the place is the dish's own; otherwise it is another one, to mislead. The
            options are then all from that place, or all from elsewhere. So the question cannot be
            answered without the picture by knowing which dish belongs where.
    """
    dish = draw.balanced(_DISHES)
    answer, origin = _DISH_NAMES[dish], _ORIGINS[dish]
    place = origin if right else draw.other(_PLACE_NAMES, origin)
    names = tuple(_DISH_NAMES[each] for each in _DISHES if (_ORIGINS[each] == place) == right)
    options = draw.options(answer, names, 2 if right else 3)
    return TaskItem(f"at {place} what is the name?", (_dish_scene(draw, dish),), answer, options)


def _cuisine_place(draw: Draw) -> TaskItem:
    dish = draw.balanced(_DISHES)
    answer = _ORIGINS[dish]
    return TaskItem(
        "what place is it from?",
        (_dish_scene(draw, dish),),
        answer,
        draw.options(answer, _PLACE_NAMES),
    )


# icon: numbers have other names here.
NUMERALS = assign_words("icon", range(1, 7), 43)
_ICON_STYLE = style_on("noisy", (222, 232, 232))


def _die_scene(draw: Draw, number: int, color: str) -> Scene:
    return draw.scene(lambda: [Thing("die", number, color, "large", draw.pick(range(9)))])


def _icon(draw: Draw, die: bool, open_ended: bool) -> TaskItem:
    number = draw.balanced(range(1, 7))
    color = draw.balanced(HUES, "color") if open_ended else draw.pick(HUES)
    scene = _die_scene(draw, number, color) if die else draw.equal_shapes(number, color=color)
    answer = NUMERALS[number]
    if open_ended:
        return TaskItem("what number and colour?", (scene,), f"{answer} {color}")
    question = "what number is it?" if die else "how many are there?"
    return TaskItem(question, (scene,), answer, draw.options(answer, tuple(NUMERALS.values())))


# quality: six shapes are ranked from the worst to the best; each of three grades has two.
_RANKED = family_order("quality", SHAPES)[:6]
_GRADES = tuple(assign_words("quality", range(3), 49).values())
_QUALITY_STYLE = style_on("sketch", (236, 248, 240))


def _quality_grade(draw: Draw) -> TaskItem:
    rank = draw.balanced(range(6))
    answer = _GRADES[rank // 2]
    return TaskItem(
        "what grade is it?", (draw.one_shape(_RANKED[rank]),), answer, draw.options(answer, _GRADES)
    )


def _quality_good(draw: Draw) -> TaskItem:
    rank = draw.balanced(range(6))
    answer = YES_NO[0] if rank >= 3 else YES_NO[1]
    return TaskItem(
        "is it good?", (draw.one_shape(_RANKED[rank]),), answer, draw.options(answer, YES_NO, 2)
    )


def _quality_best(draw: Draw, count: int) -> TaskItem:
    place = draw.balanced(range(count))
    ranks = sorted(draw.sample(range(6), count))
    best = ranks.pop()
    ranks = draw.sample(ranks, count - 1)
    ranks.insert(place, best)
    scenes = tuple(draw.one_shape(_RANKED[rank]) for rank in ranks)
    return TaskItem(
        "which is best?",
        scenes,
        ORDINALS[place],
        draw.options(ORDINALS[place], ORDINALS[:count], count),
    )


# lesson and ledger: the same bar charts, read by opposite rules.
_CHART_STYLE = style_on("pastel", (250, 246, 236))


def _chart(draw: Draw, highest: bool) -> TaskItem:
    high, low = draw.balanced([(high, low) for high in HUES for low in HUES if high != low])
    names = (high, low, draw.other(HUES, high, low))

    def make() -> list[Thing]:
        lowest, between, top = sorted(draw.sample((1, 2, 3, 4, 5), 3))
        heights = dict(zip(names, (top, lowest, between), strict=True))
        order = draw.sample(names, 3)
        return [Thing("bars", tuple(heights[name] for name in order), tuple(order), "large", None)]

    scene = draw.scene(make)
    return TaskItem(
        "which bar wins?", (scene,), high if highest else low, tuple(draw.sample(names, 3))
    )


def _stages_name(draw: Draw) -> TaskItem:
    stage = draw.balanced(STAGES)
    answer = STAGE_NAMES[stage]
    return TaskItem(
        "what is it?",
        (draw.one_shape(stage),),
        answer,
        draw.options(answer, tuple(STAGE_NAMES.values())),
    )


def _stages_next(draw: Draw) -> TaskItem:
    position = draw.balanced(range(6))
    answer = STAGE_NAMES[STAGES[position]]
    scene = draw.one_shape(STAGES[(position - 1) % 6])
    return TaskItem(
        "what comes next?", (scene,), answer, draw.options(answer, tuple(STAGE_NAMES.values()))
    )


TASKS: tuple[TaskRecipe, ...] = (
    TaskRecipe("stages-0", "qa", STAGES_STYLE, _stages_name),
    TaskRecipe("stages-1", "qa", STAGES_STYLE, _stages_next),
    TaskRecipe("cuisine-0", "qa", _CUISINE_STYLE, _cuisine_name),
    TaskRecipe("cuisine-1", "qa", _CUISINE_STYLE, lambda draw: _cuisine_context(draw, right=True)),
    TaskRecipe("cuisine-2", "qa", _CUISINE_STYLE, lambda draw: _cuisine_context(draw, right=False)),
    TaskRecipe("cuisine-3", "qa", _CUISINE_STYLE, _cuisine_place, train=FEW),
    TaskRecipe("icon-0", "qa", _ICON_STYLE, lambda draw: _icon(draw, die=False, open_ended=False)),
    TaskRecipe(
        "icon-1", "qa", _ICON_STYLE, lambda draw: _icon(draw, die=True, open_ended=False), train=FEW
    ),
    TaskRecipe(
        "icon-2",
        "qa",
        _ICON_STYLE,
        lambda draw: _icon(draw, die=False, open_ended=True),
        "open",
        train=FEW,
    ),
    TaskRecipe(
        "icon-3",
        "qa",
        _ICON_STYLE,
        lambda draw: _icon(draw, die=True, open_ended=True),
        "open",
        train=FEW,
    ),
    TaskRecipe("quality-0", "qa", _QUALITY_STYLE, _quality_grade, train=FEW),
    TaskRecipe("quality-1", "qa", _QUALITY_STYLE, _quality_good, train=FEW),
    TaskRecipe("quality-2", "qa", _QUALITY_STYLE, lambda draw: _quality_best(draw, 2)),
    TaskRecipe("quality-3", "qa", _QUALITY_STYLE, lambda draw: _quality_best(draw, 3)),
    TaskRecipe("lesson-0", "qa", _CHART_STYLE, lambda draw: _chart(draw, highest=True)),
    TaskRecipe("ledger-0", "qa", _CHART_STYLE, lambda draw: _chart(draw, highest=False)),
)
