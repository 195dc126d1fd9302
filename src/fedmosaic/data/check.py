"""Check all data before training starts, so that a bad image is found at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from fedmosaic.data.examine_images import find_faults
from fedmosaic.data.example import Example, Task
from fedmosaic.data.records import FileExamples, RecordLocation
from fedmosaic.errors import DataError


class _LocatedExample(NamedTuple):
    """Hold an example and a function that describes the location of a field of its item."""

    describe: Callable[[str], str]
    example: Example


def check(*tasks: Task) -> None:
    """Check that tasks have training and test examples, options for choices, and whole images.

    Raises:
        DataError: a task is empty; a test example of a choice task has no options (naming file
            and item); or an image is bad, as :func:`check_images` describes.
    """
    for task in tasks:
        for split, examples in (("train", task.train), ("test", task.test)):
            if not len(examples):
                raise DataError(
                    f"task {task.name!r} has no {split} examples; it must have at least one"
                )
        if task.kind == "choice":
            _check_options(task)
    splits = ("train", "test")
    check_images(
        {f"task {task.name!r}: {split}": getattr(task, split) for task in tasks for split in splits}
    )


def check_images(sets: Mapping[str, Sequence[Example]]) -> None:
    """Check that every image file is there and whole.

    A file that several examples share is opened once. PNG and JPEG are verified without decoding
    their pixels (:func:`fedmosaic.data.encoded.examine`), and what is found of a file is remembered
    (:class:`fedmosaic.data.examined_files.ExaminedFiles`). Examples that are made on access (a
    sequence other than a list or tuple, such as the miniature benchmark's) have no files and are
    not made here.

    Args:
        sets: examples by the name to use in a message if they do not know their file.

    Raises:
        DataError: an image is bad. The message names the file, item and field of the first one,
            and counts the others.
    """
    held = [examples for examples in sets.values() if isinstance(examples, list | tuple)]
    found = find_faults(
        image for examples in held for example in examples for image in example.images
    )
    faulty: dict[object, str] = dict(found.items())
    faults: dict[object, str] = {}
    located = (entry for name, examples in sets.items() for entry in _locate(name, examples))
    for entry in located if faulty else ():
        for image in entry.example.images:
            if image.encoded and image.source in faulty:
                place = entry.describe("image")
                # A picture inside a data file is called by its place, which is said once.
                fault = faulty[image.source].removeprefix(f"image of {place}: ")
                faults.setdefault(image.source, f"{place}: {fault}")
    if faults:
        more = f" ({len(faults) - 1} more image files are bad)" if len(faults) > 1 else ""
        raise DataError(next(iter(faults.values())) + more)


def _check_options(task: Task) -> None:
    way_out = "give its items an 'options' field, or say kind: open"
    if not any(example.options for example in task.test):
        raise DataError(
            f"task {task.name!r} is of kind 'choice', but no test example lists options that"
            f" contain its answer; {way_out}"
        )
    lacking = [
        entry
        for entry in _locate(f"task {task.name!r}: test", task.test)
        if not entry.example.options
    ]
    if lacking:
        raise DataError(
            f"{lacking[0].describe('options')}: task {task.name!r} is of kind 'choice', but"
            f" {len(lacking)} of its {len(task.test)} test examples list no options that contain"
            f" their answer, this one first; {way_out}"
        )


def location(name: str, examples: Sequence[Example], index: int) -> str:
    """Say where an example is: in a file's item, or in the set of that name."""
    example = examples[index]
    if isinstance(examples, FileExamples):
        return str(examples.locations[index])
    return f"{name}: item {index} (id {example.id!r})"


def _field_of(location: RecordLocation, field: str) -> str:
    return location.field(location.images if field == "image" else field)


def _locate(name: str, examples: Sequence[Example]) -> Iterator[_LocatedExample]:
    if not isinstance(examples, tuple | list):
        return
    for index, example in enumerate(examples):
        if isinstance(examples, FileExamples):
            yield _LocatedExample(partial(_field_of, examples.locations[index]), example)
        else:
            describe = partial("{} item {} (id {!r}), field {!r}".format, name, index, example.id)
            yield _LocatedExample(describe, example)
