"""Compare a run's data with what it began with, and continue with changed data on request.

Training items are numbered in the memories of clients. After an accepted change the numbers in the
last checkpoint are replaced by those of today. Items that are gone leave the memories; new items
arrive in the steps that are left (:meth:`fedmosaic.data.stream.ClientStream.carry_over`).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fedmosaic.config import ClientSpec
from fedmosaic.data.digests import DataChange, Integers, moved
from fedmosaic.errors import CheckpointError, DataError
from fedmosaic.federation.client_store import note_trained, trained_clients
from fedmosaic.federation.context import new_stream
from fedmosaic.federation.data_record import PUBLIC, DataRecord, task_set
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.wire import read_tensors, write_tensors


def data_to_continue(folder: RunFolder, runtime: Runtime, accept: bool) -> DataRecord:
    """Return the record of the data with which a run is continued.

    Args:
        folder: the run folder. If a change is accepted, its last checkpoint is rewritten, and the
            change becomes a line of its metrics.
        runtime: the run.
        accept: whether to continue with changed data.

    Raises:
        DataError: the data changed and ``accept`` is false, or public data changed, which made A
            and B. The message names the first difference and the way out.
        CheckpointError: the last checkpoint belongs to other data.
    """
    now, before = DataRecord.of(runtime), folder.data_record()
    if before is None:
        warnings.warn(
            f"{folder.path} has no record of the data it began with (an earlier version made it): "
            "whether the data is the same cannot be compared",
            stacklevel=2,
        )
    elif changes := before.changes(now):
        _require_acceptable(folder.path, changes, accept)
        warnings.warn(_accepted(changes), stacklevel=2)
        if (checkpoint := folder.latest()) is not None:
            _carry_over(folder, runtime, checkpoint, (before, now), changes)
    else:
        return now
    folder.write_data_record(now)
    return now


def _require_acceptable(path: Path, changes: Sequence[DataChange], accept: bool) -> None:
    public = [change for change in changes if change.name.startswith(PUBLIC)]
    if public:
        raise DataError(
            f"{_first(public)}, since the run {path} began. Public data made the run's A and B, so "
            "it cannot change within a run: restore it, or start a new run"
        )
    if not accept:
        raise DataError(
            f"{_first(changes)}, since the run {path} began. Restore the data, or accept the change"
            f" and continue with: fedmosaic run --resume {path} --accept-data-change"
        )


def _first(changes: Sequence[DataChange]) -> str:
    """Say what changed first, and how many items differ in all."""
    first, total = changes[0], sum(change.items for change in changes)
    more = f" ({total} items differ)" if total > 1 else ""
    return f"{first.file}: {first.what}{more}"


def _accepted(changes: Sequence[DataChange]) -> str:
    leaked = sum(change.leaked for change in changes)
    tested = (
        f". {leaked} items that are tested from now on were trained on before: their scores are "
        "not those of unseen items"
    )
    return f"the run goes on with changed data: {_first(changes)}{tested * bool(leaked)}"


def _carry_over(
    folder: RunFolder,
    runtime: Runtime,
    checkpoint: Path,
    records: tuple[DataRecord, DataRecord],
    changes: Sequence[DataChange],
) -> None:
    """Rewrite a checkpoint for changed data, with a line in the metrics.

    The checkpoint names the record that its numbers belong to. So a process that is stopped between
    this and the writing of the record does not number items a second time.
    """
    before, now = records
    tensors, scalars = read_tensors(checkpoint / "server.safetensors")
    if scalars.get("data") == now.id:
        return
    if scalars.get("data") not in (None, before.id):
        raise CheckpointError(
            f"{checkpoint} was made with other data than that of {folder.path}; it cannot continue "
            "the run"
        )
    folder.truncate(int(scalars["lines"]))
    shown = [
        {"file": change.file, "first": change.what, "items": change.items, "leaked": change.leaked}
        for change in changes
    ]
    folder.append([{"kind": "data", "round": int(scalars["round"]), "changes": shown}])
    scalars = {**scalars, "data": now.id, "lines": int(scalars["lines"]) + 1}
    with folder.checkpoint(int(scalars["round"])) as work:
        write_tensors(work / "server.safetensors", tensors, scalars)
        source, target = checkpoint / "clients", work / "clients"
        trained = trained_clients(source)
        for client in runtime.scenario.clients:
            if trained is None or client.name in trained:
                name = f"{client.name}.safetensors"
                _renumber(source / name, target / name, runtime, client, records)
        if trained is not None:
            note_trained(target)


def _renumber(
    source: Path,
    target: Path,
    runtime: Runtime,
    client: ClientSpec,
    records: tuple[DataRecord, DataRecord],
) -> None:
    """Write a client's file with the numbers that its samples have now."""
    tensors, scalars = read_tensors(source)
    numbers, counts = _new_numbers(runtime, client, records)
    stream = new_stream(runtime, client)
    if len(numbers) != stream.sample_count or (numbers != np.arange(len(numbers))).any():
        parts = {
            key.removeprefix("stream/"): tensors.pop(key).numpy()
            for key in list(tensors)
            if key.startswith("stream/")
        }
        state = stream.carry_over({**scalars["stream"], **parts}, numbers, counts)
        arrays = {key: value for key, value in state.items() if isinstance(value, np.ndarray)}
        tensors |= {f"stream/{key}": torch.from_numpy(value) for key, value in arrays.items()}
        plain = {key: value for key, value in state.items() if key not in arrays}
        scalars = {**scalars, "stream": plain}
    write_tensors(target, tensors, scalars)


def _new_numbers(
    runtime: Runtime, client: ClientSpec, records: tuple[DataRecord, DataRecord]
) -> tuple[Integers, list[int]]:
    """Return today's number of each former sample of a client, and the former samples a task.

    A sample that is gone has the number −1.
    """
    numbers, counts, start = [], [], 0
    for spec in client.tasks:
        before, now = (record.sets.get(task_set(spec.name)) for record in records)
        count = len(runtime.task(spec).train)
        # What is made on access follows from the settings, and has not changed.
        found = moved(before, now) if before and now else np.arange(count)
        numbers.append(np.where(found < 0, -1, found + start))
        counts.append(len(found))
        start += count
    return np.concatenate(numbers), counts
