"""Record a measurement: one line of the metrics file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Record:
    """Record the score of a client's model on a task in a round.

    Attributes:
        round: Number of the round, from 0.
        client: Name of the client.
        task: Name of the task.
        metric: ``accuracy``, ``f1`` or ``rouge_l``.
        value: Score in [0, 1].
        n: Number of test items.
        unreadable: Generated choices that named no option; they count as wrong.
        stage: ``before`` local training (after the download), or ``after`` it.
        view: Which of the client's models, e.g. ``mixed``.
        seconds: Duration of the measurement.
        routes: Of a view that routes, how many items each of the client's models answered.
    """

    round: int
    client: str
    task: str
    metric: str
    value: float
    n: int
    unreadable: int = 0
    stage: Literal["before", "after"] = "after"
    view: str = "mixed"
    seconds: float = 0.0
    routes: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the values of the record's line; ``routes`` is left out where it is empty."""
        content = asdict(self)
        if not self.routes:
            del content["routes"]
        return content

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Record:
        """Read the record of a line of the metrics file; other keys of the line are ignored."""
        names = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in line.items() if key in names})
