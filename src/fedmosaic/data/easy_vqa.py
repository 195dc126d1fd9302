"""Load the easy-VQA set (PyPI package ``easy-vqa``), divided into 35 tasks.

The package holds 5,000 images (64 × 64 pixels, one shape each) and 48,000 questions. Every question
belongs to exactly one task, by its kind and by the colour or shape that it names:

- ``shape`` (what shape is in the image?), ``shape-<colour>`` (what is the red shape?)
- ``colour`` (what color is the shape?), ``colour-<shape>`` (what color is the circle?)
- ``presence-<colour|shape>`` (is there a red shape?)
- ``absence-<colour|shape>`` (is there not a red shape?)

All are choice tasks, with the prompt ``<image> QUESTION Options: a, b, c``. Training and test
images are the package's own split.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Literal

from fedmosaic.data.example import IMAGE_MARK, Example, Task, Turn
from fedmosaic.data.image import Image
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
_NAMED_VALUE = re.compile(rf"\b({'|'.join((*COLOURS, *SHAPES))})\b")


def load_easy_vqa(
    name: str, *, seed: int = 0, train_limit: int | None = None, test_limit: int | None = None
) -> Task:
    """Return the task ``easy-vqa/<name>``; its group and family are the kind of question.

    Args:
        name: one of :data:`TASKS`.
        seed: draws the sample if a limit is below the number of questions.
        train_limit: the most training examples; default None, all (``shape-<colour>``: about 150,
            ``presence-<colour>``: about 1,300).
        test_limit: the most test examples; default None, all (about 40 and 320).

    Raises:
        DataError: the name is unknown, or the package is not installed.
    """
    if name not in TASKS:
        raise DataError(f"easy-VQA has no task {name!r}.{nearest(name, TASKS)}")
    kind = name.partition("-")[0]

    def sample(split: Literal["train", "test"], limit: int | None) -> tuple[Example, ...]:
        examples = _examples_by_task(split)[name]
        chosen = choose(len(examples), limit, seed_for(seed, "easy-vqa", name, split))
        return tuple(examples[index] for index in chosen)

    train, test = sample("train", train_limit), sample("test", test_limit)
    return Task(
        f"easy-vqa/{name}", train, test, kind="choice", metric="accuracy", family=kind, group=kind
    )


def task_of(question: str) -> str:
    """Return the name of the task that a question belongs to.

    Raises:
        DataError: easy-VQA has no such question.
    """
    found = _NAMED_VALUE.search(question)
    value = f"-{found[1]}" if found else ""
    if question.startswith(("what color", "what is the color")):
        name = "colour" + value
    elif question.startswith("what"):
        name = "shape" + value
    else:
        name = ("absence" if re.search(r"\b(not|no)\b", question) else "presence") + value
    if name not in TASKS:
        raise DataError(
            f"easy-VQA: question {question!r} fits no task; the package must be easy-vqa 1.0"
        )
    return name


@cache
def _examples_by_task(split: Literal["train", "test"]) -> dict[str, list[Example]]:
    try:
        import easy_vqa
    except ModuleNotFoundError as error:
        raise DataError(
            "the easy-VQA set is not installed; get it with: pip install easy-vqa"
            " (or 'fedmosaic[examples]')"
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
