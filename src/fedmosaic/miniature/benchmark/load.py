"""The procedural benchmark: 40 tasks of 19 families in the structure of DRAKE, seven unseen tasks, and a public set.

Ten clients have four tasks each, in three groups, and the families recur at the clients exactly as DRAKE's datasets
do (``fedmosaic/scenarios/miniature/hetero.yaml``). It mirrors DRAKE's structure, it is not DRAKE: what is asked is
simple, and its difficulty lies in knowledge that only the training examples tell.

    task = load_task("wardrobe-0", seed=1)
    task.train[0].question        # "<image><image> how many are dax? Options: two, zero, one"
    task.train[0].answer          # "one"
"""

from __future__ import annotations

from functools import partial

from fedmosaic.data.example import IMAGE_MARK, Example, Examples, Image, Task, Turn
from fedmosaic.errors import DataError, nearest
from fedmosaic.miniature.benchmark import (
    families_qa,
    families_reasoning,
    families_relation,
    families_unseen,
)
from fedmosaic.miniature.benchmark.families import Draw, Item, Split, TaskSpec
from fedmosaic.miniature.benchmark.public import PUBLIC_STYLES, public_item
from fedmosaic.miniature.world.render import render
from fedmosaic.miniature.world.styles import Style
from fedmosaic.miniature.world.words import with_options

TEST_EXAMPLES = 200

_SEEN = {
    spec.name: spec
    for spec in (*families_relation.TASKS, *families_reasoning.TASKS, *families_qa.TASKS)
}
_UNSEEN = {spec.name: spec for spec in families_unseen.TASKS}


def task_names() -> tuple[str, ...]:
    """The 40 tasks of the ten clients."""
    return tuple(_SEEN)


def unseen_names() -> tuple[str, ...]:
    """The tasks that no client trains on: four new types, then three new styles."""
    return tuple(_UNSEEN)


def load_task(
    name: str, *, seed: int = 0, train: int | None = None, test: int | None = None
) -> Task:
    """One task of the benchmark.

    Args:
        name: One of :func:`task_names` or :func:`unseen_names`; a leading ``miniature/`` is allowed.
        seed: Draws the examples. What is to be learned (codes, orders, conventions) is the same under every seed.
        train: Number of training examples; default 25, 60 or 100, the task's own.
        test: Number of test examples; default 200.

    Returns:
        A task whose examples are rendered on first use. No test picture occurs among the training pictures of any seed.

    Raises:
        DataError: If there is no such task, or a number of examples is not positive.
    """
    spec = find_task(name)
    counts = {
        "train": spec.train if train is None else train,
        "test": TEST_EXAMPLES if test is None else test,
    }
    for which, count in counts.items():
        if count < 1:
            raise DataError(
                f"miniature task {name!r}: {which} must be a positive number of examples, not {count}"
            )
    return Task(
        name=spec.name,
        train=Examples(counts["train"], lambda index: _example(spec, "train", seed, index)),
        test=Examples(counts["test"], lambda index: _example(spec, "test", seed, index)),
        kind=spec.kind,
        metric="f1" if spec.kind == "open" else "accuracy",
        family=spec.family,
        group=spec.group,
    )


def public_set(n: int, seed: int = 0) -> Examples:
    """``n`` general examples (colours, shapes, counts, places, comparisons) that hold no family's knowledge.

    For calibration and alignment. Their pictures occur in no task, whatever the seeds.
    """
    if n < 1:
        raise DataError(f"the public set must have at least one example, not {n}")

    def make(index: int) -> Example:
        draw = Draw("public", "public", seed, index)
        style = PUBLIC_STYLES[index % len(PUBLIC_STYLES)]
        return _render(f"public/{seed}/{index}", public_item(draw), style)

    return Examples(n, make)


def find_task(name: str) -> TaskSpec:
    """How the task ``name`` is made. Raises DataError with the nearest names if there is none."""
    short = name.removeprefix("miniature/")
    spec = _SEEN.get(short) or _UNSEEN.get(short)
    if spec is None:
        raise DataError(f"unknown miniature task {name!r}.{nearest(short, (*_SEEN, *_UNSEEN))}")
    return spec


def _example(spec: TaskSpec, split: Split, seed: int, index: int) -> Example:
    item = spec.make(Draw(spec.name, split, seed, index))
    return _render(f"{spec.name}/{split}/{seed}/{index}", item, spec.style)


def _render(name: str, item: Item, style: Style) -> Example:
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
