"""Provide the items of the splits of a task, whatever its source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.config import DataSettings
from fedmosaic.data.checks.unused_files import unused_files
from fedmosaic.data.example import Example
from fedmosaic.data.reading.files import Scan, ScannedItem
from fedmosaic.data.records import RecordLocation, notes_of
from fedmosaic.data.registry import PUBLIC_SOURCES, TASK_SOURCES, load_task, public_examples
from fedmosaic.data.task_files import is_file_task, task_files
from fedmosaic.data_check.plan import PlannedTask

HELD_OUT = "items"
"""Name for the items of a task whose test items are held out of its training items."""


@dataclass(frozen=True)
class TaskItems:
    """Hold where the items of a task come from.

    Attributes:
        splits: what yields the items, by split; a scan of files may be iterated only one time.
        notes: what there is to say about the choice of files.
    """

    splits: dict[str, Scan | ExampleItems]
    notes: Sequence[str] = ()


class ExampleItems:
    """Yield examples that come from no file as items.

    Args:
        name: name of the task.
        examples: the examples.
    """

    def __init__(self, name: str, examples: Sequence[Example]) -> None:
        self.name = name
        self.examples = examples
        self.notes = notes_of(examples)

    def __iter__(self) -> Iterator[ScannedItem]:
        """Yield the items; examples are made one after the other."""
        for index in range(len(self.examples)):
            example = self.examples[index]
            yield ScannedItem(RecordLocation(Path(self.name), index, example.id), example, None)


def needs_folder(planned: PlannedTask) -> bool:
    """Return whether the data of a task is in files of the user's."""
    name = planned.spec.name
    bundled = name in PUBLIC_SOURCES if planned.public else name.partition("/")[0] in TASK_SOURCES
    return not bundled and not Path(name).exists()


def task_items(planned: PlannedTask, data: DataSettings) -> TaskItems:
    """Return the items of a task, which are read when they are iterated.

    Raises:
        DataError: there is no such task.
    """
    name, root = planned.spec.name, data.root or Path()
    if planned.public and name in PUBLIC_SOURCES:
        public = public_examples(name, data.public_size, data.seed)
        return TaskItems({"public": ExampleItems(name, public)})
    if name.partition("/")[0] in TASK_SOURCES:
        task = load_task(name, seed=data.seed, train_limit=data.train, test_limit=data.test)
        return TaskItems(
            {
                "train": ExampleItems(f"{name} train", task.train),
                "test": ExampleItems(f"{name} test", task.test),
            }
        )
    if planned.public and name.lower().endswith(".txt"):
        path = next((p for p in (root / name, Path(name)) if p.is_file()), root / name)
        return TaskItems({"public": Scan(path, [root])})
    files = task_files(name, root)
    roots = _roots(name, root, files.train[0])
    if planned.public:
        return TaskItems({"public": Scan(files.train, roots)}, files.notes)
    train = Scan(files.train, roots)
    notes = [*files.notes]
    for note in unused_files(files.train, [*files.train, *files.test]):
        if not any(given.startswith(note.partition(" looks ")[0]) for given in notes):
            notes.append(note)
    if not files.test:
        return TaskItems({HELD_OUT: train}, notes)
    return TaskItems({"train": train, "test": Scan(files.test, roots)}, notes)


def _roots(name: str, root: Path, first: Path) -> list[Path]:
    """Return the folders that image paths of a task may start from."""
    if not is_file_task(name, root):
        return [root, first.parent.parent]
    folder = next((place for place in (root / name, Path(name)) if place.is_dir()), None)
    return [root] if folder is None else [root, folder]
