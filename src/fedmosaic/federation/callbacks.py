"""Define callbacks, which notify progress lines and trackers of a run's events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.evaluation import Record


class Callback:
    """Ignore every event; subclasses override the methods they need.

    A callback only observes: it cannot change a number of the run.
    """

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        """Handle the start: models and data are loaded, and ``first_round`` comes next."""

    def adapters_placed(self, found: Mapping[str, Any]) -> None:
        """Handle which modules carry adapters; see :func:`.placement.describe` for ``found``."""

    def round_started(self, round_number: int, clients: Sequence[str]) -> None:
        """Handle the start of a round, in which these clients take part."""

    def client_finished(self, round_number: int, client: str, report: Mapping[str, Any]) -> None:
        """Handle a client's result; ``report`` is its line of the metrics file."""

    def round_finished(
        self, round_number: int, entry: Mapping[str, Any], records: Sequence[Record]
    ) -> None:
        """Handle the end of a round: its metrics are on disk, its checkpoint is being written.

        Args:
            round_number: the round, from 0.
            entry: the round's line of the metrics file.
            records: the scores of the round.
        """

    def run_finished(self, summary: Mapping[str, Any]) -> None:
        """Handle the end of a run: its summary is on disk."""

    def closed(self) -> None:
        """Release resources. Called once, last, whether the run finished or not."""


EVENTS = tuple(name for name in vars(Callback) if not name.startswith("_"))


class Callbacks(Callback):
    """Pass every event on to several callbacks, in their order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)
        for event in EVENTS:
            setattr(self, event, partial(self._dispatch, event))

    def _dispatch(self, event: str, *arguments: Any) -> None:
        for callback in self.callbacks:
            getattr(callback, event)(*arguments)
