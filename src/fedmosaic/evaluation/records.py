"""One measurement: a client's model on a task at a moment of the run; a line of the metrics file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal


@dataclass(frozen=True)
class Record:
    """A score.

    Attributes:
        round: from 0. client, task: names. metric: ``accuracy``, ``f1`` or ``rouge_l``.
        value: in [0, 1]. n: number of test items. unreadable: generated choice answers that named no option (they count as wrong).
        stage: before (after the download) or after local training. view: which of the client's models.
        seconds: what the measurement took.
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

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Record:
        """The record in a line of the metrics file; other keys of the line are passed over."""
        names = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in line.items() if key in names})
