"""Hold what a check found of data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fedmosaic.data.records import RecordLocation
from fedmosaic.errors import FedMosaicError

_FIELD = re.compile(r"^, field '(?P<name>[^']*)'")


@dataclass(frozen=True)
class Fault:
    """Hold one thing that is wrong, and where.

    Attributes:
        task: name of the task.
        message: what is wrong and what to do about it.
        file: the file, or the name of a task without files; empty: the task as a whole.
        item: position of the item in the file, from 0; None: the file as a whole.
        id: the item's id.
        field: the item's field; empty: the item as a whole.
        model: the model that cannot take the item; empty: no run can use it.
    """

    task: str
    message: str
    file: str = ""
    item: int | None = None
    id: str = ""
    field: str = ""
    model: str = ""

    @classmethod
    def of_item(
        cls,
        task: str,
        location: RecordLocation,
        error: FedMosaicError | str,
        *,
        field: str = "",
        model: str = "",
    ) -> Fault:
        """Return the fault of an item; an error's message may begin with its location."""
        text = str(error)
        if text.startswith(str(location)):
            text = text.removeprefix(str(location))
            named = _FIELD.match(text)
            field = named["name"] if named else field
            text = text[named.end() :] if named else text
        short = f"{location.path}: item {location.index}"
        text = text.removeprefix(short).lstrip(": ")
        return cls(task, text, str(location.path), location.index, location.id, field, model)

    def __str__(self) -> str:
        """Return the fault as one sentence that begins with where it is."""
        place = self.file or f"task {self.task!r}"
        if self.item is not None:
            place += f": item {self.item} (id {self.id!r})"
        place += f", field {self.field!r}" if self.field else ""
        return self.message if self.message.startswith(place) else f"{place}: {self.message}"


@dataclass(frozen=True)
class SplitFacts:
    """Count what the items of a split are.

    Attributes:
        items: number of items that can be read.
        images: number of items by their number of images.
        heights: smallest, median and largest height of an image, in pixels; empty: no images.
        widths: the same of the width.
        options: number of items by their number of options.
        answers: number of different answers.
        commonest: the commonest answer.
        share: share of the items with that answer.
        tokens: by model, the tokens of an item: least, quartiles, 99th percentile and most.
        repeated: number of items with the content of an earlier one of the split.
    """

    items: int
    images: Mapping[int, int]
    heights: Sequence[float]
    widths: Sequence[float]
    options: Mapping[int, int]
    answers: int
    commonest: str
    share: float
    tokens: Mapping[str, Mapping[str, int]]
    repeated: int


@dataclass
class CheckedTask:
    """Hold what a check found of one task.

    Attributes:
        name: name of the task.
        kind: ``choice`` or ``open``.
        metric: score of its answers.
        splits: facts by split: ``train`` and ``test``, or ``public``.
        shared: number of test items whose content is also among the training items.
        faults: what is wrong.
        notes: what is worth knowing and not wrong.
    """

    name: str
    kind: str = "open"
    metric: str = "rouge_l"
    splits: dict[str, SplitFacts] = field(default_factory=dict)
    shared: int = 0
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON holds it."""
        return asdict(self)


@dataclass
class CheckedData:
    """Hold what a check found of all tasks.

    Attributes:
        source: what was checked: a scenario, a file, a folder or a task.
        tasks: the tasks whose data is there.
        missing: faults that tell of data that is not there.
        unchecked: models that the items were not checked for, and why.
    """

    source: str
    tasks: list[CheckedTask] = field(default_factory=list)
    missing: list[Fault] = field(default_factory=list)
    unchecked: dict[str, str] = field(default_factory=dict)

    @property
    def faults(self) -> list[Fault]:
        """Return what is wrong, task by task; one that several tasks have in common, once."""
        found = [*self.missing, *(fault for task in self.tasks for fault in task.faults)]
        return list({(f.file, f.item, f.field, f.message, f.model): f for f in found}.values())

    @property
    def notes(self) -> Iterator[str]:
        """Yield what is worth knowing and not wrong."""
        yield from dict.fromkeys(note for task in self.tasks for note in task.notes)

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON holds it."""
        tasks = [task.to_json() for task in self.tasks]
        for task in tasks:
            del task["faults"]
        return {
            "source": self.source,
            "tasks": tasks,
            "faults": [{**asdict(fault), "text": str(fault)} for fault in self.faults],
            "notes": list(self.notes),
            "unchecked": self.unchecked,
        }
