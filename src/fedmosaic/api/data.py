"""Look at data from Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedmosaic.data import load_task
from fedmosaic.data.check import check_images, location
from fedmosaic.data.example import Example
from fedmosaic.data.reading.files import FILE_TYPES, Scan
from fedmosaic.data.records import FileExamples, RecordLocation, notes_of
from fedmosaic.data.registry import TASK_SOURCES
from fedmosaic.data.shown import ShownItem, metric_of
from fedmosaic.data.task_files import task_files
from fedmosaic.errors import DataError, FedMosaicError

Split = Literal["train", "test"]


@dataclass(frozen=True)
class ShownData:
    """Hold what :func:`show_data` found.

    Attributes:
        items: the items.
        notes: what the reader does not use, rewrites or guesses, a sentence each.
    """

    items: Sequence[ShownItem]
    notes: Sequence[str]


def show_data(
    source: str | Path,
    *,
    root: str | Path | None = None,
    split: Split | None = None,
    limit: int | None = None,
    model: str | None = None,
) -> ShownData:
    """Return what a run would learn from a file or a task.

    Args:
        source: a data file or folder, or the name of a task, as in a scenario.
        root: folder that paths start from, as a scenario's ``data.root``; None: the working folder.
        split: only the items that a run trains on, or is tested on. None: all items; of a file in
            their sequence in the file.
        limit: the first items; None: all.
        model: encode the items for this model, as in a scenario. Each item then has ``tokens``,
            the whole sample as text; ``labels``, what is learned of it; ``ids``; and
            ``label_ids``, -100 where nothing is learned.

    Raises:
        FedMosaicError: the first item that would be refused; the message names file, item and
            field.
    """
    if limit is not None and limit < 1:
        raise DataError(f"a limit of {limit} items shows nothing; it must be 1 or more")
    place = Path(root) if root is not None else Path()
    if not place.is_dir():
        raise DataError(f"the folder {place}, where paths may start, does not exist")
    path = Path(source)
    if (
        split is None
        and str(source).partition("/")[0] not in TASK_SOURCES
        and _is_data(path, place)
    ):
        items, notes = _of_files(str(source), place, limit)
    else:
        items, notes = _of_task(str(source), place, split, limit)
    if model is not None:
        _encode(items, model)
    return ShownData(items, notes)


def _is_data(path: Path, root: Path) -> bool:
    return any(
        place.is_dir() or place.suffix.lower() in FILE_TYPES for place in (root / path, path)
    )


def _of_files(source: str, root: Path, limit: int | None) -> tuple[list[ShownItem], list[str]]:
    """Return the items of a file in their sequence; of a folder those of all its files."""
    path = next((place for place in (root / source, Path(source)) if place.exists()), Path(source))
    if path.is_dir():
        files = task_files(source, root)
        paths, notes, roots = [*files.train, *files.test], list(files.notes), [root, path]
    else:
        paths, notes, roots = [path], [], [root]
    scan = Scan(paths, roots=roots)
    locations: list[RecordLocation] = []
    examples: list[Example] = []
    for item in scan:
        if item.example is None:
            assert item.error is not None
            raise item.error
        locations.append(item.location)
        examples.append(item.example)
        if len(examples) == limit:
            break
    found = FileExamples.build(locations, examples)
    check_images({source: found})
    items = [
        ShownItem(example, where, str(where.path), where.index, metric=metric_of(found, example))
        for where, example in zip(locations, examples, strict=True)
    ]
    return items, [*notes, *scan.notes]


def _of_task(
    source: str, root: Path, split: Split | None, limit: int | None
) -> tuple[list[ShownItem], list[str]]:
    task = load_task(source, root=root)
    items = []
    for name in ("train", "test") if split is None else (split,):
        examples: Sequence[Example] = getattr(task, name)
        chosen = range(min(len(examples), len(examples) if limit is None else limit))
        part = examples.select(chosen) if isinstance(examples, FileExamples) else examples
        check_images({f"task {task.name!r}: {name}": part})
        for index in chosen:
            where = examples.locations[index] if isinstance(examples, FileExamples) else None
            items.append(
                ShownItem(
                    examples[index],
                    where,
                    str(where.path) if where else task.name,
                    where.index if where else index,
                    name,
                    "accuracy" if examples[index].options else task.metric,
                )
            )
    return items[:limit], list(notes_of(task.train, task.test))


def _encode(items: Sequence[ShownItem], model: str) -> None:
    """Add to each item its tokens and what is learned of them."""
    # Data is looked at without waiting for PyTorch.
    from fedmosaic.models.backbone import Backbone
    from fedmosaic.models.encoding import IGNORE
    from fedmosaic.models.loading import ModelOptions

    backbone = Backbone.load(model, ModelOptions())
    decode = backbone.tokenizer.decode
    for number, item in enumerate(items):
        try:
            encoded = backbone.encode(item.example)
        except FedMosaicError as error:
            where = item.location or location(item.source, [i.example for i in items], number)
            raise type(error)(f"{where}: {error}") from error
        learned = [label for label in encoded.labels if label != IGNORE]
        item.encoded = {
            "tokens": decode(list(encoded.input_ids)),
            "labels": decode(learned),
            "ids": list(encoded.input_ids),
            "label_ids": list(encoded.labels),
        }
