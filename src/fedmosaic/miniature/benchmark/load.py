"""Load the procedural benchmark: 40 tasks of 19 families, seven unseen tasks, and a public set.

Ten clients have four tasks each, in three groups, and the families recur at the clients exactly as
DRAKE's datasets do (``fedmosaic/scenarios/miniature/hetero.yaml``). The benchmark mirrors DRAKE's
structure but not its content: the questions are simple, and they are difficult because only the
training examples tell what the answers mean::

    task = load_task("wardrobe-0", seed=1)
    task.train[0].question        # "<image><image> how many are dax? Options: two, zero, one"
    task.train[0].answer          # "one"
"""

from __future__ import annotations

from functools import partial

from fedmosaic.data.example import IMAGE_MARK, Example, LazyExamples, Task, Turn
from fedmosaic.data.image import Image
from fedmosaic.errors import DataError, nearest
from fedmosaic.miniature.benchmark import (
    families_qa,
    families_reasoning,
    families_relation,
    families_unseen,
)
from fedmosaic.miniature.benchmark.families import Draw, Split, TaskItem, TaskRecipe
from fedmosaic.miniature.benchmark.public import PUBLIC_STYLES, public_item
from fedmosaic.miniature.world.render import render
from fedmosaic.miniature.world.styles import RenderStyle
from fedmosaic.miniature.world.words import with_options

TEST_EXAMPLES = 200

_SEEN = {
    recipe.name: recipe
    for recipe in (*families_relation.TASKS, *families_reasoning.TASKS, *families_qa.TASKS)
}
_UNSEEN = {recipe.name: recipe for recipe in families_unseen.TASKS}


def task_names() -> tuple[str, ...]:
    """Return the names of the 40 tasks of the ten clients."""
    return tuple(_SEEN)


def unseen_names() -> tuple[str, ...]:
    """Return the names of the tasks that no client trains on: four new types, three new styles."""
    return tuple(_UNSEEN)


def load_task(
    name: str, *, seed: int = 0, train_limit: int | None = None, test_limit: int | None = None
) -> Task:
    """Return the task ``miniature/<name>``, whose examples are rendered on access.

    No test picture is a training picture under any seed.

    Args:
        name: one of :func:`task_names` or :func:`unseen_names`, with or without ``miniature/``.
        seed: draws the examples. What is to be learned (codes, orders, conventions) is the same
            under every seed.
        train_limit: number of training examples; default 25, 60 or 100, the task's own.
        test_limit: number of test examples; default 200.

    Raises:
        DataError: if there is no such task, or a number of examples is not positive.
    """
    recipe = find_recipe(name)
    train_size = recipe.train if train_limit is None else train_limit
    test_size = TEST_EXAMPLES if test_limit is None else test_limit
    for split, size in (("train", train_size), ("test", test_size)):
        if size < 1:
            raise DataError(
                f"miniature task {name!r}: {split} must be a positive number of examples,"
                f" not {size}"
            )
    return Task(
        name=f"miniature/{recipe.name}",
        train=LazyExamples(train_size, partial(_example, recipe, "train", seed)),
        test=LazyExamples(test_size, partial(_example, recipe, "test", seed)),
        kind=recipe.kind,
        metric="f1" if recipe.kind == "open" else "accuracy",
        family=recipe.family,
        group=recipe.group,
    )


def public_set(n: int, seed: int = 0) -> LazyExamples:
    """Return ``n`` general examples, which hold no knowledge of any family.

    They ask about colours, shapes, counts, places and comparisons, for calibration and alignment.
    Their pictures are in no task, whatever the seeds.

    Raises:
        DataError: if ``n`` is less than 1.
    """
    if n < 1:
        raise DataError(f"the public set must have at least one example, not {n}")

    def make(index: int) -> Example:
        draw = Draw("public", "public", seed, index)
        style = PUBLIC_STYLES[index % len(PUBLIC_STYLES)]
        return _render(f"public/{seed}/{index}", public_item(draw), style)

    return LazyExamples(n, make)


def find_recipe(name: str) -> TaskRecipe:
    """Return how the task ``name`` is made.

    Raises:
        DataError: if there is no such task; the message has the nearest names.
    """
    short = name.removeprefix("miniature/")
    recipe = _SEEN.get(short) or _UNSEEN.get(short)
    if recipe is None:
        raise DataError(f"unknown miniature task {name!r}.{nearest(short, (*_SEEN, *_UNSEEN))}")
    return recipe


def _example(recipe: TaskRecipe, split: Split, seed: int, index: int) -> Example:
    item = recipe.make(Draw(recipe.name, split, seed, index))
    return _render(f"{recipe.name}/{split}/{seed}/{index}", item, recipe.style)


def _render(name: str, item: TaskItem, style: RenderStyle) -> Example:
    text = with_options(item.question, item.options) if item.options else item.question
    return Example(
        id=name,
        turns=(
            Turn("user", f"{IMAGE_MARK * len(item.scenes)} {text}"),
            Turn("assistant", item.answer),
        ),
        images=tuple(Image(partial(render, scene, style)) for scene in item.scenes),
        options=item.options,
    )
