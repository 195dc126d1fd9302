"""The check of all data before training starts: a bad image is found in the first minute, not in the tenth hour."""

from __future__ import annotations

from collections.abc import Iterator
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
    where: str
    example: Example


def check(*tasks: Task) -> None:
    """Verifies that every task has training and test examples, and that every image file is there and whole.

    A file that several examples share is opened once. Pictures are verified without decoding them (PNG checksums,
    JPEG end marker), a fraction of a millisecond each. Examples that are rendered when asked for (neither a list nor a
    tuple, like the miniature benchmark's) have no files and stay unrendered.

    Raises:
        DataError: an empty task; a choice task none of whose test examples has options; or the first bad image,
            naming file, item and field, and how many more are bad.
    """
    for task in tasks:
        for split, examples in (("train", task.train), ("test", task.test)):
            if not len(examples):
                raise DataError(f"task {task.name!r} has no {split} examples")
        if task.kind == "choice" and not any(example.options for example in task.test):
            raise DataError(
                f"task {task.name!r} is of kind 'choice', but no test example lists options that contain its answer; "
                "give its items an 'options' field, or say kind: open"
            )
    faults: dict[Path, str] = {}
    verified: set[Path] = set()
    for item in _items(tasks):
        for image in item.example.images:
            if isinstance(image.source, Path) and image.source not in verified:
                verified.add(image.source)
                fault = _fault(image.source)
                if fault:
                    faults[image.source] = f"{item.where}: image file {image.source} {fault}"
    if faults:
        more = f" ({len(faults) - 1} more image files are bad)" if len(faults) > 1 else ""
        raise DataError(next(iter(faults.values())) + more)


def _items(tasks: tuple[Task, ...]) -> Iterator[_Item]:
    for task in tasks:
        for split, examples in (("train", task.train), ("test", task.test)):
            if not isinstance(examples, tuple | list):
                continue
            for index, example in enumerate(examples):
                if isinstance(examples, FileExamples):
                    where = Place(examples.path, examples.positions[index], example.id).field("image")
                else:
                    where = f"task {task.name!r}: {split} item {index} (id {example.id!r}), field 'image'"
                yield _Item(where, example)


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
