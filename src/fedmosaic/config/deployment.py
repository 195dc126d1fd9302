"""Define deadlines and limits of a federation whose clients are at sites of their own."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator

from fedmosaic.config.base import Settings


class DeploymentSettings(Settings):
    """Set how long the server waits for its clients, and what it does where some are missing.

    ``fedmosaic server`` reads it; a run on one machine does not. The defaults suit sites that are
    connected over the internet. Every wait prints whom it is for.
    """

    join_seconds: float = Field(default=3600.0, gt=0)
    """Seconds that the server waits for the clients before the first round: one hour."""

    min_clients: int | None = Field(default=None, ge=1)
    """Fewest clients with which the first round begins, after ``join_seconds``. None: all.

    With fewer the server stops, and its folder can be resumed. Clients that come later take part
    from the next round on.
    """

    prepare_seconds: float = Field(default=1800.0, gt=0)
    """Seconds in which a client must load its model and data, and align it: half an hour."""

    round_seconds: float = Field(default=7200.0, gt=0)
    """Seconds from the beginning of a round to its deadline: two hours.

    A client must receive, train, be evaluated and answer in that time. Choose a few times what the
    slowest client needs.
    """

    request_seconds: float = Field(default=120.0, gt=0)
    """Seconds in which a client must answer a request without work, such as its hello.

    A request without an answer is sent anew.
    """

    min_updates: int | float = 0.5
    """Fewest updates with which a round counts.

    A whole number: so many updates. A number with a point, up to 1.0: that share of the clients
    that were asked.
    """

    short_round: Literal["repeat", "stop"] = "repeat"
    """What follows a round with fewer updates.

    ``repeat``: the clients without an update are asked anew, up to ``repeats`` times; then the
    server stops. ``stop``: it stops at once. Its folder can be resumed in both cases.
    """

    repeats: int = Field(default=3, ge=0)
    """Most times that one round is repeated."""

    late: Literal["drop", "keep"] = "drop"
    """What becomes of an update that comes after the deadline of its round.

    ``drop``: it is refused. ``keep``: it counts in the next round where its client has no other.
    """

    max_message_gib: float = Field(default=2.0, gt=0)
    """Largest message in GiB that server and clients accept. A longer one is refused unread."""

    @field_validator("min_updates", mode="before")
    @classmethod
    def _number_or_share(cls, value: Any) -> Any:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not value > 0 or (isinstance(value, float) and value > 1):
            raise ValueError(
                "write a whole number of updates, such as 2, or a share with a point, such as 0.5"
            )
        return value

    def updates_needed(self, asked: int) -> int:
        """Return how many updates a round needs in which so many clients were asked."""
        if isinstance(self.min_updates, float):
            return max(1, math.ceil(self.min_updates * asked - 1e-9))
        return min(self.min_updates, asked)
