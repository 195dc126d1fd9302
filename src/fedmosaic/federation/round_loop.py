"""Run the rounds: download, local work, check, aggregate, metrics, checkpoint."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fedmosaic.algorithms import Message
from fedmosaic.algorithms.message import sent_in_round
from fedmosaic.errors import CheckpointError, FedMosaicError
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.checkpoints import Checkpoints, restore_server
from fedmosaic.federation.context import ServerContext
from fedmosaic.federation.defences import without_effect
from fedmosaic.federation.exchange import Downloads, Results, Updates
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import Transport
from fedmosaic.federation.wire import check_shared, pack
from fedmosaic.seeding import rng
from fedmosaic.training.flops import FlopCounter


@dataclass(frozen=True)
class Progress:
    """Say how far a run is.

    Attributes:
        rounds: number of finished rounds.
        lines: lines of the metrics file that belong to them.
        checkpoint_seconds: time that the run waited for the last checkpoint to begin. It begins
            after the metrics of its round, so its time stands in the next round's line.
    """

    rounds: int = 0
    lines: int = 0
    checkpoint_seconds: float = 0.0


class RoundLoop:
    """Run the rounds of a federation.

    Args:
        runtime: settings, algorithm and, for algorithms that compute with models on the server,
            the models.
        transport: reaches the clients.
        folder: the run folder.
        callback: is notified of every event.

    Attributes:
        server: what the algorithm sees of the server.
        members: the clients by name.
        schemas: what the updates of each client contain, by client.
        progress: how far the run is.
        data: hash of the data that the run works on, which checkpoints name; empty if unknown.
        checkpoints: writes the checkpoints.

    Raises:
        UpdateError: two clients cannot share a tensor because its shapes differ.
    """

    def __init__(
        self, runtime: Runtime, transport: Transport, folder: RunFolder, callback: Callback
    ) -> None:
        self.runtime = runtime
        self.settings = runtime.settings
        self.algorithm = runtime.algorithm
        self.transport = transport
        self.folder = folder
        self.callback = callback
        introductions = transport.introduce()
        self.server = ServerContext(runtime, introductions, folder.server_rows)
        in_background = self.settings.scenario.server.background_checkpoints
        self.checkpoints = Checkpoints(folder, in_background)
        self.server.state.before_change = self.checkpoints.wait
        self.members = {member.name: member for member in self.server.members}
        self.schemas = {name: found.schema for name, found in introductions.items()}
        check_shared(self.schemas)
        self.progress = Progress()
        self.data = ""

    def run(self, pause: Callable[[], bool] = lambda: False) -> None:
        """Run all rounds from the present one on.

        Args:
            pause: asked before each round whether to stop there.

        Raises:
            FedMosaicError: a round has no usable update.
            CheckpointError: a checkpoint cannot be written.
        """
        self.callback.run_started(self.settings, self.progress.rounds)
        defences = self.settings.scenario.defences
        noted = without_effect(defences, self.algorithm, self.server.members)
        for note in [*self.algorithm.notes(), *noted]:
            warnings.warn(note, stacklevel=2)
        if not self.progress.rounds:
            found = self.transport.placement()
            if found is not None:
                self.folder.write_placement(found)
                self.callback.adapters_placed(found)
        try:
            while self.progress.rounds < self.settings.scenario.rounds and not pause():
                self._round(self.progress.rounds)
            self.checkpoints.wait()
        finally:
            self.checkpoints.close()
            self.server.state.storage.close()

    def _round(self, number: int) -> None:
        started, waited = time.perf_counter(), self.checkpoints.waited
        counter = FlopCounter(free=self.runtime.towers())
        is_counted = number == self._counted_round
        counting: AbstractContextManager[Any] = counter if is_counted else nullcontext()
        self.server.round, self.server.recorded = number, {}
        if self.settings.scenario.cohort is not None:
            self.server.receivers = self.participants(number + 1)

        # 1. Choose who trains and who evaluates.
        training = self.participants(number)
        instructions = self._instructions(number, training)

        # 2. Downloads are made when their client's turn comes.
        downloads = self._downloads(instructions, counting)
        server_seconds = time.perf_counter() - started
        self.callback.round_started(number, list(instructions))

        # 3. Clients receive, train, evaluate and upload; their updates are checked and taken.
        results = self._exchange(number, instructions, downloads)
        server_seconds += downloads.seconds + results.seconds
        if training and not results.updates:
            reasons = "; ".join(results.refused.values())
            raise FedMosaicError(f"round {number}: no usable update. {reasons}")

        # 4. Aggregate.
        clock = time.perf_counter()
        with counting:
            self.algorithm.aggregate(self.server, results.updates)
        results.updates.clear()
        server_seconds += time.perf_counter() - clock

        # 5. Write the metrics, then begin the checkpoint, which is written while the next round
        # computes. It never counts lines that are not on disk.
        # Lines after the last checkpoint are cut off on resume and measured again.
        entry = self._entry(number, training, results)
        if is_counted:
            entry["flops"] = {"server": counter.total}
        entry["bytes"] = results.traffic()
        entry["seconds"] = self._seconds(server_seconds, started, self.checkpoints.waited - waited)
        scores = [{"kind": "score", **record.to_json()} for record in results.records]
        lines = [*results.lines, *scores, entry]
        self.folder.append(lines)
        self.progress = self._checkpoint(number + 1, self.progress.lines + len(lines))
        self.callback.round_finished(number, entry, results.records)

    # --- the steps of a round -----------------------------------------------------------------
    def participants(self, round_number: int) -> list[str]:
        """Return who trains in a round, in roster order.

        All clients, or a seeded draw of ``cohort`` of them or of the share ``participation``.
        """
        names = [member.name for member in self.server.members]
        count = self.settings.scenario.participants
        if count >= len(names):
            return names
        draw = rng(self.settings.seed, "participants", round_number)
        chosen = set(draw.permutation(len(names))[:count].tolist())
        return [name for index, name in enumerate(names) if index in chosen]

    def _instructions(self, number: int, training: Sequence[str]) -> dict[str, Instructions]:
        settings = self.settings.scenario.evaluation
        last = number == self.settings.scenario.rounds - 1
        due = last or (settings.every > 0 and (number + 1) % settings.every == 0)
        everybody, trains = due and settings.clients == "all", set(training)
        items = settings.last_items if last else settings.items
        return {
            member.name: Instructions(
                number,
                train=member.name in trains,
                before=due and settings.before,
                after=due,
                items=items,
                count=number == self._counted_round,
            )
            for member in self.server.members
            if everybody or member.name in trains
        }

    @property
    def _counted_round(self) -> int:
        """Return the round whose operations are counted: the first with downloads to receive."""
        return min(1, self.settings.scenario.rounds - 1)

    def _downloads(
        self, instructions: Mapping[str, Instructions], counting: AbstractContextManager[Any]
    ) -> Downloads:
        received = self.settings.scenario.cohort is None

        def make(name: str) -> bytes:
            if received or instructions[name].train:
                return pack(self.algorithm.download(self.server, self.members[name]))
            return pack(Message())  # the algorithm has mixed for those alone that train

        return Downloads(make, instructions, counting)

    def _exchange(
        self, number: int, instructions: Mapping[str, Instructions], downloads: Downloads
    ) -> Results:
        take = partial(self.algorithm.take, self.server)
        storage, defences = self.server.state.storage, self.settings.scenario.defences
        results = Results(Updates(storage), take, defences)
        for name, result in self.transport.exchange(instructions, downloads):
            schema = sent_in_round(self.schemas[name], self.algorithm.alternates, number)
            results.add(self.members[name], result, schema)
            line = {
                "kind": "client",
                "round": number,
                "client": name,
                "bytes": {"up": len(result.update or b""), "down": downloads.sizes.get(name, 0)},
                **json.loads(json.dumps(result.figures())),
            }
            results.lines.append(line)
            self.callback.client_finished(number, name, line)
        results.finish(self.members)
        return results

    def _seconds(self, server: float, started: float, waited: float) -> dict[str, float]:
        """Return the seconds of a round.

        Args:
            server: those of the server, with those that it waited for a checkpoint.
            started: when the round began.
            waited: those that the server waited.
        """
        before = self.progress.checkpoint_seconds
        total = time.perf_counter() - started + before
        return {"server": server - waited, "checkpoint": before + waited, "total": total}

    def _entry(self, number: int, training: Sequence[str], results: Results) -> dict[str, Any]:
        return {
            "kind": "round",
            "round": number,
            "clients": training,
            "refused": results.refused,
            **({"defences": found.record()} if (found := results.judgement) else {}),
            **self.server.recorded,
        }

    # --- checkpoints --------------------------------------------------------------------------
    def _checkpoint(self, rounds: int, lines: int) -> Progress:
        """Begin to write a checkpoint; return how far the run is then."""
        clock = time.perf_counter()
        scalars = {"round": rounds, "lines": lines, "data": self.data}
        self.checkpoints.begin(rounds, scalars, self.server.state, self.transport)
        return Progress(rounds, lines, time.perf_counter() - clock)

    def restore(self, checkpoint: Path) -> None:
        """Continue from a checkpoint: server, clients and the metrics written until then.

        Raises:
            CheckpointError: it is damaged, or was made with other data.
        """
        rounds, lines, data = restore_server(self.server, checkpoint)
        if self.data and data and data != self.data:
            raise CheckpointError(
                f"{checkpoint} was made with other data than that of {self.folder.path}; it cannot "
                "continue the run"
            )
        self.progress = Progress(rounds, lines)
        self.folder.truncate(lines)
        self.transport.load(checkpoint / "clients")
