"""The check of all data before training starts: a bad image is found in the first minute, not in the tenth hour."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import PIL.Image

from fedmosaic.data.example import Example, Task
from fedmosaic.data.records import FileExamples, Place
from fedmosaic.errors import DataError

# A whole JPEG ends with this marker; some writers add a few bytes of their own after it.
_JPEG_END = b"\xff\xd9"
_JPEG_TAIL = 1024


class _Item(NamedTuple):
    where: Callable[[str], str]
    example: Example


def check(*tasks: Task) -> None:
    """Verifies that every task has training and test examples, options for its choices, and whole images.

    Raises:
        DataError: an empty task; a choice task with a test example without options (naming file and item); or
            the first bad image, as :func:`check_images`.
    """
    for task in tasks:
        for split, examples in (("train", task.train), ("test", task.test)):
            if not len(examples):
                raise DataError(f"task {task.name!r} has no {split} examples")
        if task.kind == "choice":
            _check_options(task)
    splits = ("train", "test")
    check_images(
        {f"task {task.name!r}: {split}": getattr(task, split) for task in tasks for split in splits}
    )


def check_images(sets: Mapping[str, Sequence[Example]]) -> None:
    """Verifies that every image file is there and whole.

    A file that several examples share is opened once. Pictures are verified without decoding them (PNG checksums,
    JPEG end marker), a fraction of a millisecond each. Examples that are made when asked for (neither a list nor a
    tuple, like the miniature benchmark's) have no files and stay unmade.

    Args:
        sets: by what to call them where their examples do not know which file they are from.

    Raises:
        DataError: the first bad image, naming file, item and field, and how many more are bad.
    """
    faults: dict[Path, str] = {}
    verified: set[Path] = set()
    for item in (item for name, examples in sets.items() for item in _items(name, examples)):
        for image in item.example.images:
            if isinstance(image.source, Path) and image.source not in verified:
                verified.add(image.source)
                fault = _fault(image.source)
                if fault:
                    faults[image.source] = (
                        f"{item.where('image')}: image file {image.source} {fault}"
                    )
    if faults:
        more = f" ({len(faults) - 1} more image files are bad)" if len(faults) > 1 else ""
        raise DataError(next(iter(faults.values())) + more)


def _check_options(task: Task) -> None:
    way_out = "give its items an 'options' field, or say kind: open"
    if not any(example.options for example in task.test):
        raise DataError(
            f"task {task.name!r} is of kind 'choice', but no test example lists options that contain its answer; {way_out}"
        )
    lacking = [
        item for item in _items(f"task {task.name!r}: test", task.test) if not item.example.options
    ]
    if lacking:
        raise DataError(
            f"{lacking[0].where('options')}: task {task.name!r} is of kind 'choice', but {len(lacking)} of its {len(task.test)} "
            f"test examples list no options that contain their answer, this one first; {way_out}"
        )


def _items(name: str, examples: Sequence[Example]) -> Iterator[_Item]:
    if not isinstance(examples, tuple | list):
        return
    for index, example in enumerate(examples):
        if isinstance(examples, FileExamples):
            yield _Item(Place(examples.path, examples.positions[index], example.id).field, example)
        else:
            yield _Item(
                partial("{} item {} (id {!r}), field {!r}".format, name, index, example.id), example
            )


def _fault(path: Path) -> str:
    """What is wrong with an image file; empty if nothing is."""
    if not path.is_file():
        return "does not exist"
    try:
        with PIL.Image.open(path) as picture:
            kind = picture.format
            picture.verify()
        # verify() reads no further than a JPEG's header: a file cut short shows at its end.
        if kind == "JPEG" and not _ends_whole(path):
            with PIL.Image.open(path) as picture:
                picture.load()
    except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
        return f"is corrupt or no image: {error}"
    return ""


def _ends_whole(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _JPEG_TAIL))
        return _JPEG_END in file.read()
