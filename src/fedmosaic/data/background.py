"""Set what is behind the transparent parts of the images of examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fedmosaic.data.example import Example, Task
from fedmosaic.data.image import Image
from fedmosaic.data.pixels import Background


def before(examples: Sequence[Example], background: Background) -> Sequence[Example]:
    """Return the examples with their image files before a background.

    Images are before white as they are read. An image that several examples share stays shared.
    Examples that are made on access have no image files and are returned as they are.
    """
    if background == "white" or not isinstance(examples, list | tuple):
        return examples
    shown: dict[int, Image] = {}

    def changed(image: Image) -> Image:
        return shown.setdefault(id(image), replace(image, background=background))

    made = type(examples)(
        replace(example, images=tuple(map(changed, example.images))) for example in examples
    )
    if hasattr(examples, "__dict__"):  # what the examples of a file know about it
        vars(made).update(vars(examples))
    return made


def task_before(task: Task, background: Background) -> Task:
    """Return the task with the image files of its examples before a background."""
    return replace(task, train=before(task.train, background), test=before(task.test, background))
