"""Hold the times and sizes within which a server and its sites work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Set for how long the server waits, and what it accepts.

    Attributes:
        join: seconds in which the expected sites must appear before the first round.
        round: seconds that the sites have for a round.
        extensions: how many times a round with too few updates gets as many seconds more.
        request: seconds that a site has to say who it is, to publish, to prepare and to finish.
        quiet: seconds of silence after which the server asks what became of a turn.
        min_clients: sites without which no round begins.
        min_updates: updates without which no round ends.
        attempts: how many times a site may fail in a round before the round goes on without it.
        message: most bytes of an answer.
        keep_late: whether an update that comes after its round counts in the next one, unless the
            site has a newer one then.
    """

    join: float = 600.0
    round: float = 3600.0
    extensions: int = 3
    request: float = 1800.0
    quiet: float = 15.0
    min_clients: int = 1
    min_updates: int = 1
    attempts: int = 5
    message: int = 2 << 30
    keep_late: bool = False
