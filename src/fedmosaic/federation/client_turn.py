"""Hold what a client's turn has led to, and how long its parts took."""

from __future__ import annotations

import time

from fedmosaic.federation.instructions import ClientResult, Instructions


class ClientTurn:
    """Hold what a client's turn has led to so far.

    Attributes:
        instructions: what the server asked for.
        result: what the server gets.
        laps: wall time of the parts of the turn.
    """

    def __init__(self, instructions: Instructions) -> None:
        self.instructions = instructions
        self.result = ClientResult()
        self.laps = Laps("receive", "train", "evaluate", "upload")


class Laps:
    """Share out wall time among the named parts of a turn.

    Attributes:
        seconds: time of each part so far.
    """

    def __init__(self, *parts: str) -> None:
        self.seconds = dict.fromkeys(parts, 0.0)
        self._clock = time.perf_counter()

    def end(self, part: str) -> None:
        """Count the time since the last lap for ``part``."""
        now = time.perf_counter()
        self.seconds[part] += now - self._clock
        self._clock = now

    def skip(self) -> None:
        """Count the time since the last lap for no part."""
        self._clock = time.perf_counter()
