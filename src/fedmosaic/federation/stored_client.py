"""Load a client as it is stored: by the latest checkpoint of its run, or by its own site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fedmosaic.config import ClientSpec, RunSettings
from fedmosaic.data.digests import ItemDigests, difference, digest_items
from fedmosaic.errors import CheckpointError, DataError
from fedmosaic.evaluation import Record
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.client_store import trained_clients
from fedmosaic.federation.data_record import task_set
from fedmosaic.federation.resources import prepare_torch
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime


@dataclass(frozen=True)
class StoredClient:
    """Hold a client that answers inputs or is exported.

    Attributes:
        local: the client.
        rounds: number of finished rounds.
        trained: whether it has taken part in one of them; otherwise it is as at the beginning.
        records: what was measured of it.
        adapters: where each of its adapters is, once the run has finished.
        require_same_prompts: raises DataError unless its training items are those of the run.
    """

    local: LocalClient
    rounds: int
    trained: bool
    records: Sequence[Record]
    adapters: Path
    require_same_prompts: Callable[[], None]

    def last_scores(self, view: str) -> list[Record]:
        """Return the scores of a view in the last of the rounds in which it was measured."""
        found = [
            record
            for record in self.records
            if (record.view, record.stage) == (view, "after") and record.round < self.rounds
        ]
        last = max((record.round for record in found), default=0)
        return [record for record in found if record.round == last]


def latest_checkpoint(folder: RunFolder) -> Path:
    """Return the latest checkpoint of a run.

    Raises:
        CheckpointError: there is none yet.
    """
    checkpoint = folder.latest()
    if checkpoint is None:
        raise CheckpointError(
            f"{folder.path} has no checkpoint yet: no round is finished. Continue the run with: "
            f"fedmosaic run --resume {folder.path}"
        )
    return checkpoint


def load_client(folder: RunFolder, settings: RunSettings, spec: ClientSpec) -> StoredClient:
    """Return a client with its weights, its own tensors and its stream.

    Args:
        folder: the run folder.
        settings: the run.
        spec: the client.

    Raises:
        CheckpointError: there is no checkpoint yet, or the client's file is damaged.
        DataError: its training data is missing.
    """
    checkpoint = latest_checkpoint(folder)
    prepare_torch(settings)
    runtime = Runtime(settings)
    local = LocalClient(runtime, spec)
    names = trained_clients(checkpoint / "clients")
    trained = names is None or spec.name in names
    if trained:
        local.load(checkpoint / "clients" / f"{spec.name}.safetensors")
    scores = [Record.from_json(line) for line in folder.lines() if line["kind"] == "score"]
    return StoredClient(
        local,
        int(checkpoint.name.rpartition("-")[2]),
        trained,
        [record for record in scores if record.client == spec.name],
        folder.path / "adapters" / spec.name,
        partial(require_same_prompts, folder, runtime, spec),
    )


def require_same_prompts(folder: RunFolder, runtime: Runtime, spec: ClientSpec) -> None:
    """Require that a client's training items are those of its run.

    They are compared with the record that the run made of its data. A run of an earlier version
    has none, and what is made on access follows from the settings.

    Args:
        folder: the run folder.
        runtime: the run.
        spec: the client.

    Raises:
        DataError: an item changed; the message names file and item.
    """
    record = folder.data_record()
    for task in spec.tasks if record else ():
        assert record is not None
        before = record.sets.get(task_set(task.name))
        now = digest_items(task_set(task.name), runtime.task(task).train)
        change = difference(task.name, _trained(before), now) if before and now else None
        if change is not None:
            raise DataError(
                f"{change.file}: {change.what}, since the run {folder.path} began. The training "
                f"prompts of client {spec.name!r} decide which model answers: restore the data"
            )


def _trained(items: ItemDigests) -> ItemDigests:
    """Return the digests of the items that are trained on."""
    count = items.trained
    positions, parts = np.array(items.positions[:count]), np.array(items.parts[:count])
    return ItemDigests(items.files, positions, parts, count)
