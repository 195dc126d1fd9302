"""What wants to know how a run goes: progress lines, TensorBoard and other trackers listen here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Record


class Callback:
    """Does nothing at every event; listeners override what they need.

    An callback only listens: nothing it does can change a number of the run.
    """

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        """Models and data are loaded; training begins with ``first_round``."""

    def round_started(self, round: int, clients: Sequence[str]) -> None:
        """The downloads of a round are ready for these clients."""

    def client_finished(self, round: int, client: str, report: Mapping[str, Any]) -> None:
        """A client gave its reply: losses, samples, seconds, bytes."""

    def round_finished(
        self, round: int, entry: Mapping[str, Any], records: Sequence[Record]
    ) -> None:
        """The round is aggregated and on disk; ``entry`` is its line in the metrics file."""

    def run_finished(self, summary: Mapping[str, Any]) -> None:
        """The summary is on disk."""

    def closed(self) -> None:
        """Nothing more will come, whether the run finished or not. Called once, last."""


class Callbacks(Callback):
    """Several callbacks as one."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        for callback in self.callbacks:
            callback.run_started(settings, first_round)

    def round_started(self, round: int, clients: Sequence[str]) -> None:
        for callback in self.callbacks:
            callback.round_started(round, clients)

    def client_finished(self, round: int, client: str, report: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback.client_finished(round, client, report)

    def round_finished(
        self, round: int, entry: Mapping[str, Any], records: Sequence[Record]
    ) -> None:
        for callback in self.callbacks:
            callback.round_finished(round, entry, records)

    def run_finished(self, summary: Mapping[str, Any]) -> None:
        for callback in self.callbacks:
            callback.run_finished(summary)

    def closed(self) -> None:
        for callback in self.callbacks:
            callback.closed()
