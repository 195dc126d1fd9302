"""The easy-VQA set (PyPI package ``easy-vqa``) as 35 tasks: 5,000 images (64×64, one shape each), 48,000 questions.

Every question belongs to exactly one task, by its kind and by the colour or shape that it names:

- ``shape`` (what shape is in the image?), ``shape-<colour>`` (what is the red shape?)
- ``colour`` (what color is the shape?), ``colour-<shape>`` (what color is the circle?)
- ``presence-<colour|shape>`` (is there a red shape?), ``absence-<colour|shape>`` (is there not a red shape?)

All are choice tasks: ``<image> QUESTION Options: a, b, c``. Training and test images are the package's own split.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

from fedmosaic.data.example import IMAGE_MARK, Example, Image, Task, Turn
from fedmosaic.data.records import choose
from fedmosaic.errors import DataError, nearest
from fedmosaic.seeding import seed_for

SHAPES = ("circle", "rectangle", "triangle")
COLOURS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
TASKS = (
    "shape",
    *(f"shape-{colour}" for colour in COLOURS),
    "colour",
    *(f"colour-{shape}" for shape in SHAPES),
    *(f"{kind}-{value}" for kind in ("presence", "absence") for value in (*COLOURS, *SHAPES)),
)
_OPTIONS = {"shape": SHAPES, "colour": COLOURS, "presence": ("yes", "no"), "absence": ("yes", "no")}
_NAMED = re.compile(rf"\b({'|'.join((*COLOURS, *SHAPES))})\b")


def load_easy_vqa(
    name: str, *, seed: int = 0, train_limit: int | None = None, test_limit: int | None = None
) -> Task:
    """The task ``easy-vqa/<name>`` of this module's table; its group and family are the kind of question.

    Args:
        seed: names the sample that is taken where a limit is below what there is (shape-<colour>: about 150 training
            and 40 test questions; presence-<colour>: 1,300 and 320).

    Raises:
        DataError: an unknown name (with the nearest ones), or the package is not installed.
    """
    if name not in TASKS:
        raise DataError(f"easy-VQA has no task {name!r}.{nearest(name, TASKS)}")
    kind = name.partition("-")[0]

    def some(split: Literal["train", "test"], limit: int | None) -> tuple[Example, ...]:
        examples = _by_task(split)[name]
        return tuple(
            examples[i]
            for i in choose(len(examples), limit, seed_for(seed, "easy-vqa", name, split))
        )

    train, test = some("train", train_limit), some("test", test_limit)
    return Task(
        f"easy-vqa/{name}", train, test, kind="choice", metric="accuracy", family=kind, group=kind
    )


def task_of(question: str) -> str:
    """The name of the task that a question belongs to.

    Raises:
        DataError: a question that easy-VQA does not have.
    """
    found = _NAMED.search(question)
    named = f"-{found[1]}" if found else ""
    if question.startswith(("what color", "what is the color")):
        name = "colour" + named
    elif question.startswith("what"):
        name = "shape" + named
    else:
        name = ("absence" if re.search(r"\b(not|no)\b", question) else "presence") + named
    if name not in TASKS:
        raise DataError(
            f"easy-VQA: question {question!r} fits no task; the package must be easy-vqa 1.0"
        )
    return name


@cache
def _by_task(split: Literal["train", "test"]) -> dict[str, list[Example]]:
    try:
        import easy_vqa
    except ModuleNotFoundError as error:
        raise DataError(
            "the easy-VQA set is not installed; get it with: pip install easy-vqa (or 'fedmosaic[examples]')"
        ) from error
    if split == "train":
        questions, paths = easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()
    else:
        questions, paths = easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()
    images = {number: Image(Path(path)) for number, path in paths.items()}
    tasks: dict[str, list[Example]] = {name: [] for name in TASKS}
    for index, (question, answer, number) in enumerate(zip(*questions, strict=True)):
        name = task_of(question)
        options = _OPTIONS[name.partition("-")[0]]
        prompt = f"{IMAGE_MARK} {question} Options: {', '.join(options)}"
        turns = (Turn("user", prompt), Turn("assistant", answer))
        tasks[name].append(Example(f"{split}-{index}", turns, (images[number],), options))
    return tasks
