"""Limit how often each client may ask the server for something."""

from __future__ import annotations

import time
from collections.abc import Callable

# A node asks up to five times a second, and moves a message in pieces of 5 MiB: 2 GiB are 400.
PER_SECOND, BURST = 100.0, 1000.0


class RateLimit:
    """Count the requests of each client: a store of ``burst`` that fills ``per_second``.

    Args:
        per_second: requests a second that a client may make for any time.
        burst: requests that it may make at once.
        clock: returns the time in seconds.
    """

    def __init__(
        self,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.per_second, self.burst, self.clock = per_second, burst, clock
        self._left: dict[str, tuple[float, float]] = {}  # key: requests left, and when

    def allows(self, key: str) -> bool:
        """Count a request of a client; return whether it may be made now."""
        now = self.clock()
        left, then = self._left.get(key, (self.burst, now))
        left = min(self.burst, left + (now - then) * self.per_second)
        allowed = left >= 1
        self._left[key] = left - allowed, now
        return allowed
