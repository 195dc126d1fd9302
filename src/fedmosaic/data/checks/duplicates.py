"""Find items that stand twice, and test items that are also trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from fedmosaic.data.checks.columns import ItemColumns
from fedmosaic.data.records import RecordLocation

ChosenItems = Mapping[str, tuple[ItemColumns, np.ndarray]]
"""By split its columns, and which of their items it has, bool [items]."""


def duplicate_notes(parts: ChosenItems) -> Iterator[str]:
    """Yield a sentence on each kind of duplicate, with the first of them."""
    for name, (columns, chosen) in parts.items():
        for what, values in (
            ("repeat the content of an earlier item", columns.contents),
            ("have the id of an earlier item", [place.id for place in columns.locations]),
        ):
            first: dict[object, int] = {}
            pairs = [
                (first[values[index]], index)
                for index in np.flatnonzero(chosen).tolist()
                if first.setdefault(values[index], index) != index
            ]
            if pairs:
                before, after = (columns.locations[index] for index in pairs[0])
                yield (
                    f"{len(pairs)} {name} items {what}; first {_place(after)}, which is like"
                    f" {_place(before)}"
                )


def shared_items(parts: ChosenItems) -> tuple[int, str]:
    """Return how many test items are also training items, and a sentence; empty if none are."""
    if not {"train", "test"} <= parts.keys():
        return 0, ""
    columns, chosen = parts["train"]
    trained = {columns.contents[index]: index for index in np.flatnonzero(chosen).tolist()}
    tested, tests = parts["test"]
    found = [index for index in np.flatnonzero(tests).tolist() if tested.contents[index] in trained]
    if not found:
        return 0, ""
    after = tested.locations[found[0]]
    before = columns.locations[trained[tested.contents[found[0]]]]
    return len(found), (
        f"{len(found)} of {int(tests.sum())} test items are also training items; first"
        f" {_place(after)}, which is like {_place(before)}. A model may know their answers by heart"
    )


def _place(location: RecordLocation) -> str:
    return f"{location.path.name} item {location.index} (id {location.id!r})"
