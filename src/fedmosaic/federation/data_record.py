"""Record which data a run works on, by content, so that a resumed run goes on with the same.

The record has the digests of all items that the run uses: training items of the clients' tasks,
test items of all measured tasks, and public examples. Sets that are made on access, such as the
rendered benchmark, follow from the settings and are not recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from fedmosaic.data.digests import (
    PARTS,
    DataChange,
    ItemDigests,
    difference,
    digest_items,
)
from fedmosaic.data.example import Example
from fedmosaic.errors import CheckpointError
from fedmosaic.federation.measure import measured_tasks, most_items
from fedmosaic.federation.runtime import Runtime
from fedmosaic.packing import pack, unpack

PUBLIC = "public data"


@dataclass(frozen=True, eq=False)
class DataRecord:
    """Hold the digests of all items that a run uses, by the name of their set."""

    sets: Mapping[str, ItemDigests]

    @classmethod
    def of(cls, runtime: Runtime) -> DataRecord:
        """Return the record of the data as it is now.

        Raises:
            DataError: a file is missing or malformed.
        """
        return cls({name: found for name, found in _sets(runtime) if found is not None})

    @cached_property
    def id(self) -> str:
        """Return a hash of the content, 32 hexadecimal digits; checkpoints name it."""
        digest = hashlib.blake2b(digest_size=16)
        for name, items in sorted(self.sets.items()):
            digest.update(repr((name, items.trained, len(items.positions))).encode())
            digest.update(items.positions.tobytes() + items.parts.tobytes())
        return digest.hexdigest()

    def changes(self, now: DataRecord) -> list[DataChange]:
        """Return how each set differs now; empty if all content is the same."""
        found = [
            difference(name, before, now.sets[name])
            for name, before in self.sets.items()
            if name in now.sets
        ]
        for name in self.sets.keys() ^ now.sets.keys():
            one = self.sets.get(name) or now.sets[name]
            what = "its items are used no more, or only now"
            found.append(DataChange(name, one.files[0], what, len(one.positions)))
        return [change for change in found if change is not None]

    def to_bytes(self) -> bytes:
        """Return the record as the bytes of a file."""
        tensors = {
            f"{kind}/{name}": torch.from_numpy(np.array(getattr(items, kind), np.int64))
            for name, items in self.sets.items()
            for kind in ("positions", "parts")
        }
        about = {name: [items.files, items.trained] for name, items in self.sets.items()}
        return pack(tensors, {"sets": about})

    @classmethod
    def read(cls, path: Path) -> DataRecord:
        """Return the record in a file.

        Raises:
            CheckpointError: the file is damaged.
        """
        try:
            tensors, scalars = unpack(path.read_bytes())
            sets = {}
            for name, (files, trained) in scalars["sets"].items():
                positions, parts = (tensors[f"{k}/{name}"].numpy() for k in ("positions", "parts"))
                if parts.shape != (len(positions), len(PARTS)) or trained > len(positions):
                    raise ValueError(f"the digests of {name} do not fit each other")
                sets[name] = ItemDigests(tuple(files), positions, parts, trained)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path} cannot be read: {error}. Remove it; the run then goes on if its data is "
                "the same"
            ) from error
        return cls(sets)


def _sets(runtime: Runtime) -> Iterator[tuple[str, ItemDigests | None]]:
    scenario = runtime.scenario
    trained = {spec.name: spec for client in scenario.clients for spec in client.tasks}
    measuring = scenario.clients[:1] if scenario.evaluation.others else scenario.clients
    measured = {s.name: s for client in measuring for s in measured_tasks(scenario, client)}
    most = most_items(scenario)
    for name, spec in {**trained, **measured}.items():
        train: Sequence[Example] = runtime.task(spec).train if name in trained else ()
        test: Sequence[Example] = runtime.test_set(spec, most) if name in measured else ()
        yield task_set(name), digest_items(task_set(name), train, test)
    if scenario.data.public != "none":
        yield PUBLIC, digest_items(PUBLIC, runtime.public())
        if scenario.alignment.method != "none" and scenario.alignment.size is not None:
            name = f"{PUBLIC} of the alignment"
            yield name, digest_items(name, runtime.alignment_data())


def task_set(name: str) -> str:
    """Return the name of the set of a task's items."""
    return f"task {name}"
