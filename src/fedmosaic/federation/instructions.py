"""Define what the server asks of a client in a round, and what the client returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fedmosaic.evaluation import Record
from fedmosaic.federation.wire import Schema
from fedmosaic.training.loop import FitReport


@dataclass(frozen=True)
class Introduction:
    """Describe a client to the server before the first round.

    Attributes:
        architecture: name of the client's model, the same for all clients of one model.
        samples: number of its training examples.
        families: families of its tasks, which only oracles may use.
        schema: kinds and shapes of the tensors of its updates, by tensor name.
    """

    architecture: str
    samples: int
    families: Sequence[str]
    schema: Schema


@dataclass(frozen=True)
class Instructions:
    """Hold what a client has to do in a round; sent together with the download.

    Attributes:
        round: number of the round, from 0.
        train: whether the client receives, trains and uploads.
        before: whether it evaluates between download and training.
        after: whether it evaluates after training.
        items: test items a task; None for all.
        count: whether it counts the operations of receiving, training and uploading.
        steps: local steps of this round; None for the algorithm's own number.
    """

    round: int
    train: bool = True
    before: bool = False
    after: bool = False
    items: int | None = None
    count: bool = False
    steps: int | None = None


@dataclass
class ClientResult:
    """Hold what a client returns after a round.

    Attributes:
        update: the packed update; None if the client has none.
        failure: why there is no update although the client was asked to train; empty otherwise.
        records: its evaluation scores.
        fit: what local training reports; None if it did not train.
        flops: counted operations, ``total`` and by part of the round; None unless asked for.
        seconds: wall time of receiving, training, evaluating and uploading.
        memory: peak memory of the client's process in bytes.
        secret_noise: whether the noise on what it clips, its signature and prototypes, comes from a
            secret that only it has.
        new_prototypes: whether the update has prototypes with new noise, not those sent before.
    """

    update: bytes | None = None
    failure: str = ""
    records: list[Record] = field(default_factory=list)
    fit: FitReport | None = None
    flops: dict[str, int] | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    memory: int = 0
    secret_noise: bool = False
    new_prototypes: bool = False

    def figures(self) -> dict[str, Any]:
        """Return what the metrics file records of this result, apart from its scores."""
        figures = asdict(self.fit) if self.fit is not None else {}
        parts = figures.pop("seconds", {})
        if self.flops is not None:
            figures["flops"] = self.flops
        if self.secret_noise:
            figures["secret_noise"] = True
        if self.new_prototypes:
            figures["new_prototypes"] = True
        return {**figures, "parts": parts, "seconds": self.seconds, "memory": self.memory}

    def to_json(self) -> dict[str, Any]:
        """Return everything but the update as plain values."""
        content = asdict(self)
        del content["update"]
        return {**content, "records": [record.to_json() for record in self.records]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], update: bytes | None) -> ClientResult:
        """Rebuild a result from :meth:`to_json` and its update."""
        fit = content["fit"] and FitReport(**content["fit"])
        records = [Record(**record) for record in content["records"]]
        return cls(**{**content, "update": update, "fit": fit, "records": records})
