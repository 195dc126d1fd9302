"""Check the items of one task, going on after each fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

import numpy as np

from fedmosaic.data.checks.columns import ItemColumns
from fedmosaic.data.checks.report import CheckedTask, Fault
from fedmosaic.data.examine_images import find_faults
from fedmosaic.data.image import Image
from fedmosaic.data.reading.files import ScannedItem
from fedmosaic.errors import DataError, FedMosaicError

Progress = Callable[[str, int], None]
"""Take the name of a task, and the number of its items checked so far."""

_AT_ONCE = 512


class Taker(Protocol):
    """Decide for one model whether it takes an item."""

    def __call__(self, item: ScannedItem) -> int | None:
        """Return the number of the item's tokens, None if it is not known.

        Raises:
            FedMosaicError: the model does not take it.
        """


@dataclass(frozen=True)
class SplitItems:
    """Name items to check, and the models that must take them.

    Attributes:
        name: ``train``, ``test``, ``public``, or ``items`` where test items are held out of them.
        items: the items; it may raise DataError where a file cannot be read at all.
        takers: models that train on them or are measured on them, by name.
    """

    name: str
    items: Iterable[ScannedItem]
    takers: Mapping[str, Taker] = field(default_factory=dict)


class TaskChecker:
    """Check the splits of a task one after the other.

    Args:
        name: name of the task.
        models: names of all models that items of the task are checked for.
        progress: notified of the number of items checked.
    """

    def __init__(self, name: str, models: Sequence[str], progress: Progress) -> None:
        self.found = CheckedTask(name)
        self.models = models
        self.progress = progress
        self.columns: dict[str, ItemColumns] = {}
        self.counts: dict[str, int] = {}
        self._bad_images: dict[object, str] = {}
        self._done = 0

    def check(self, split: SplitItems) -> None:
        """Check the items of a split."""
        columns = self.columns[split.name] = ItemColumns(self.models)
        self.counts[split.name] = 0
        rest = self._readable(split)
        while part := list(islice(rest, _AT_ONCE)):
            self._examine([image for item in part for image in _images(item)])
            for item in part:
                self._check_item(item, self.counts[split.name], columns, split.takers)
                self.counts[split.name] += 1
            self._done += len(part)
            self.progress(self.found.name, self._done)

    def _readable(self, split: SplitItems) -> Iterator[ScannedItem]:
        """Yield the items as far as the files can be read."""
        try:
            yield from split.items
        except DataError as error:
            self.found.faults.append(Fault(self.found.name, str(error)))

    def _examine(self, images: Sequence[Image]) -> None:
        unknown = [
            image
            for image in images
            if image.encoded and image.source not in self._bad_images and "key" not in vars(image)
        ]
        self._bad_images.update(find_faults(unknown).items())

    def _check_item(
        self,
        item: ScannedItem,
        number: int,
        columns: ItemColumns,
        takers: Mapping[str, Taker],
    ) -> None:
        if item.example is None:
            assert item.error is not None
            self._add(item, item.error)
            return
        bad = [self._bad_images.get(i.source) if i.encoded else None for i in item.example.images]
        for reason in dict.fromkeys(filter(None, bad)):
            self._add(item, reason, field=item.location.images)
        whole = not any(bad)
        tokens: dict[str, int | None] = {}
        for model, take in takers.items() if whole else ():
            try:
                tokens[model] = take(item)
            except FedMosaicError as error:
                self._add(item, error, model=model)
        images = list(zip(item.example.images, bad, strict=True))
        columns.add(
            item.location,
            number,
            item.example,
            [None if reason else image.size for image, reason in images],
            [str(image.source) if reason else image.key for image, reason in images],
            tokens,
        )

    def _add(
        self, item: ScannedItem, error: FedMosaicError | str, *, field: str = "", model: str = ""
    ) -> None:
        name = self.found.name
        self.found.faults.append(
            Fault.of_item(name, item.location, error, field=field, model=model)
        )

    def finish(self, parts: Mapping[str, tuple[str, np.ndarray]]) -> None:
        """Count what the splits hold.

        Args:
            parts: by split, the name under which its items were checked, and which of them it has,
                bool [items].
        """
        for name, (checked, chosen) in parts.items():
            self.found.splits[name] = self.columns[checked].facts(chosen)


def _images(item: ScannedItem) -> Sequence[Image]:
    return () if item.example is None else item.example.images
