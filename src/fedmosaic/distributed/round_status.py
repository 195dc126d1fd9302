"""Show on a status board in which round a federation is, and how long it will take."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.distributed.status import StatusBoard
from fedmosaic.evaluation import Record
from fedmosaic.federation.callbacks import Callback


class StatusOfRounds(Callback):
    """Show on the status board in which round a federation is, and how long it will take."""

    def __init__(self, board: StatusBoard) -> None:
        self.board = board
        self._began = time.monotonic()
        self._first = 0

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        self._first, self._began = first_round, time.monotonic()

    def round_finished(
        self, round_number: int, entry: Mapping[str, Any], records: Sequence[Record]
    ) -> None:
        done = round_number + 1 - self._first
        left = self.board.status.rounds - round_number - 1
        self.board.set(seconds_left=(time.monotonic() - self._began) / done * left)
        for name, reason in entry.get("refused", {}).items():
            self.board.error(name, f"round {round_number + 1}: {reason}")
