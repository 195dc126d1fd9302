"""The round loop: send each client its download, check what comes back, aggregate, write down, checkpoint."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from fedmosaic.adapters.keys import in_scope
from fedmosaic.algorithms import Message
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.state import ServerState
from fedmosaic.config import RunSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import FedMosaicError, UpdateError
from fedmosaic.evaluation import Record
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.client import ClientResult, Instructions
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import Transport
from fedmosaic.federation.wire import (
    Expected,
    Schema,
    check,
    pack,
    read_tensors,
    unpack,
    write_tensors,
)
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator, rng
from fedmosaic.training.flops import FlopCounter


class FederationServer:
    """Implements :class:`fedmosaic.algorithms.base.Server` and runs the rounds.

    Args:
        runtime: settings, algorithm and, for algorithms that compute with models on the server, the models.
        transport: reaches the clients.
        folder: the run folder.
        callback: told of every event.
    """

    def __init__(
        self, runtime: Runtime, transport: Transport, folder: RunFolder, callback: Callback
    ) -> None:
        self.runtime = runtime
        self.settings: RunSettings = runtime.settings
        self.algorithm = runtime.algorithm
        self.transport = transport
        self.folder = folder
        self.callback = callback
        self.round = 0
        self.report: dict[str, Any] = {}
        self.lines = 0
        self._checkpoint_seconds = 0.0
        introductions = transport.introduce()
        names = [client.name for client in runtime.scenario.clients]
        self.members: Sequence[Member] = [
            Member(
                name=name,
                **{
                    key: introductions[name][key] for key in ("architecture", "samples", "families")
                },
            )
            for name in names
        ]
        self.schemas = {name: _schema(introductions[name]["schema"]) for name in names}
        _check_shared(self.schemas)
        self.state = ServerState(names)

    # --- what an algorithm can use ----------------------------------------------------------------------------------
    def backbone(self, name: str) -> Backbone:
        return self.runtime.backbone(name)

    def public(self) -> Sequence[Example]:
        return self.runtime.public()

    def record(self, name: str, value: Any) -> None:
        self.report[name] = value

    def generator(self, purpose: str) -> torch.Generator:
        return generator(self.settings.seed, "server", self.round, purpose)

    # --- rounds -----------------------------------------------------------------------------------------------------
    def run(self) -> None:
        """All rounds from the present one on. Raises FedMosaicError if a round has no usable update."""
        rounds = self.settings.scenario.rounds
        self.callback.run_started(self.settings, self.round)
        while self.round < rounds:
            self._one_round()

    def participants(self, round: int) -> list[str]:
        """Who trains in a round: all, or a seeded draw of ``participation`` of them (at least one), in roster order."""
        names = [member.name for member in self.members]
        count = max(1, round_half_up(self.settings.scenario.participation * len(names)))
        if count >= len(names):
            return names
        chosen = set(
            rng(self.settings.seed, "participants", round).permutation(len(names))[:count].tolist()
        )
        return [name for index, name in enumerate(names) if index in chosen]

    def _one_round(self) -> None:
        started = time.perf_counter()
        seconds = {"server": 0.0, "checkpoint": self._checkpoint_seconds}
        number, training = self.round, self.participants(self.round)
        instructions = self._instructions(number, training)
        members = {member.name: member for member in self.members}
        counted = FlopCounter(free=self.runtime.towers())
        counting = counted if number == self._counted_round else nullcontext()
        with counting:
            downloads = {
                name: pack(self.algorithm.download(self, members[name])) for name in instructions
            }
        seconds["server"] += time.perf_counter() - started
        self.callback.round_started(number, list(instructions))

        updates: dict[str, Message] = {}
        refused: dict[str, str] = {}
        records: list[Record] = []
        lines: list[dict[str, Any]] = []
        for name, result in self.transport.exchange(instructions, downloads):
            records += result.records
            if result.update is not None:
                try:
                    message = unpack(result.update)
                    check(message, self.schemas[name])
                    updates[name] = message
                except UpdateError as error:
                    refused[name] = f"update of client {name!r} refused: {error}"
            elif result.failure:
                refused[name] = f"client {name!r} has no update: {result.failure}"
            report = _client_line(number, name, result, downloads[name])
            lines.append(report)
            self.callback.client_finished(number, name, report)
        if training and not updates:
            raise FedMosaicError(f"round {number}: no usable update. {'; '.join(refused.values())}")

        clock = time.perf_counter()
        self.report = {}
        with counting:
            self.algorithm.aggregate(self, updates)
        seconds["server"] += time.perf_counter() - clock
        entry = {
            "kind": "round",
            "round": number,
            "clients": training,
            "refused": refused,
            **self.report,
            **({"flops": {"server": counted.total}} if number == self._counted_round else {}),
            "bytes": {way: sum(line["bytes"][way] for line in lines) for way in ("up", "down")},
        }
        lines += [{"kind": "score", **asdict(record)} for record in records]
        # The metrics go first: a checkpoint never counts lines that are not on disk. What is written after the last
        # checkpoint is cut off on resume and measured again. So a checkpoint's seconds stand in the next round's line.
        seconds["total"] = time.perf_counter() - started + seconds["checkpoint"]
        entry["seconds"] = seconds
        self.folder.append([*lines, entry])
        self.round += 1
        self.lines += len(lines) + 1
        clock = time.perf_counter()
        self._checkpoint()
        self._checkpoint_seconds = time.perf_counter() - clock
        self.callback.round_finished(number, entry, records)

    @property
    def _counted_round(self) -> int:
        """The round whose operations are counted: the first in which clients have received something."""
        return min(1, self.settings.scenario.rounds - 1)

    def _instructions(self, number: int, training: Sequence[str]) -> dict[str, Instructions]:
        settings = self.settings.scenario.evaluation
        last = number == self.settings.scenario.rounds - 1
        due = last or (settings.every > 0 and (number + 1) % settings.every == 0)
        items = settings.last_items if last else settings.items
        return {
            member.name: Instructions(
                number,
                train=member.name in training,
                before=due and settings.before,
                after=due,
                items=items,
                count=number == self._counted_round,
            )
            for member in self.members
            if due or member.name in training
        }

    # --- checkpoints ------------------------------------------------------------------------------------------------
    def _checkpoint(self) -> None:
        with self.folder.checkpoint(self.round) as work:
            self.transport.save(work / "clients")
            tensors, layout = self.state.state_dict()
            scalars = {"round": self.round, "lines": self.lines, "layout": layout}
            write_tensors(work / "server.safetensors", tensors, scalars)

    def restore(self, checkpoint: Path) -> None:
        """Continue from a checkpoint: server, clients and the metrics written until then."""
        tensors, scalars = read_tensors(checkpoint / "server.safetensors")
        self.state.load_state_dict(tensors, scalars["layout"])
        self.round, self.lines = int(scalars["round"]), int(scalars["lines"])
        self.folder.truncate(self.lines)
        self.transport.load(checkpoint / "clients")


def round_half_up(value: float) -> int:
    """Nearest whole number, .5 upwards."""
    return int(value + 0.5)


def _schema(entries: Mapping[str, Sequence[Any]]) -> dict[str, Expected]:
    return {name: Expected(kind, tuple(shape)) for name, (kind, shape) in entries.items()}


def _check_shared(schemas: Mapping[str, Schema]) -> None:
    """Tensors that cross architectures must have one shape; raises UpdateError naming two clients that differ."""
    seen: dict[str, tuple[str, tuple[int, ...]]] = {}
    for client, schema in schemas.items():
        for name, (_, shape) in in_scope(schema, "block").items():
            other, expected = seen.setdefault(name, (client, shape))
            if shape != expected:
                raise UpdateError(
                    f"clients {other!r} and {client!r} cannot share {name!r}: {list(expected)} and {list(shape)}; "
                    "give both adapters the same rank"
                )


def _client_line(round: int, name: str, result: ClientResult, download: bytes) -> dict[str, Any]:
    size = {"up": len(result.update or b""), "down": len(download)}
    return {
        "kind": "client",
        "round": round,
        "client": name,
        "bytes": size,
        **json.loads(json.dumps(result.report)),
    }
