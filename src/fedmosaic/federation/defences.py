"""Compare the updates of a round with one another, and find those that stand out.

The tensors are judged as they were sent, apart for P, Q, A and B: in one norm of all, the random A
that training started from would hide a large B. A limit is relative to the median of the round,
which less than half of the clients cannot move far. Updates are not compared with earlier rounds:
nothing has to be remembered, and a client that comes late is judged like the others.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fedmosaic.algorithms import Algorithm, Message
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.layout import Layout
from fedmosaic.config import DefenceSettings

FEWEST = 3  # of two updates nobody can say which one stands out
SCOPES = ("block", "layer")
NOT_JUDGED = "signature"
LISTED = 200  # clients whose figures are all in the metrics file


class JudgedTensors(NamedTuple):
    """Name tensors that are judged together.

    Attributes:
        name: such as ``P`` or ``B``.
        layout: their names and shapes, the same for all clients that are compared.
    """

    name: str
    layout: Layout


@dataclass
class Judgement:
    """Say what becomes of the updates of a round.

    Attributes:
        limit: the largest norm, in multiples of the median; None: any.
        refused: why an update is refused, by client.
        factors: what the tensors of a kind are multiplied by, by client and kind.
        norms: multiples of the median, by client and kind.
        cosines: with the mean direction of the others, by client and kind.
        not_judged: kinds that too few clients sent for a comparison, by client.
    """

    limit: float | None = None
    refused: dict[str, str] = field(default_factory=dict)
    factors: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    norms: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    cosines: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    not_judged: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def record(self) -> dict[str, Any]:
        """Return it for the round's line of the metrics file.

        ``clipped`` has the former norms of each client that was scaled down. Of many clients,
        ``norms`` and ``cosines`` have those that were clipped or refused.
        """
        clipped = {
            client: {kind: self.norms[client][kind] for kind in factors}
            for client, factors in self.factors.items()
        }
        first = {"limit": self.limit, "clipped": clipped, "refused": sorted(self.refused)}
        parts: dict[str, Mapping[str, Any]] = {"norms": self.norms, "cosines": self.cosines}
        parts["not_judged"] = self.not_judged
        return first | {
            name: {client: part[client] for client in sorted(part) if self._is_listed(client, part)}
            for name, part in parts.items()
            if part
        }

    def _is_listed(self, client: str, part: Mapping[str, Any]) -> bool:
        return len(part) <= LISTED or client in self.factors or client in self.refused

    def applied(self, client: str, message: Message) -> Message:
        """Return a client's update with its tensors scaled down where that is due."""
        factors = self.factors.get(client, {})
        if not factors:
            return message
        scaled = {
            name: (message.tensors[name].double() * factor).to(message.tensors[name].dtype)
            for kind, names in kinds_of(message).items()
            if (factor := factors.get(kind.name))
            for name in names
        }
        return Message({**message.tensors, **scaled}, message.scalars)


def kinds_of(message: Message) -> dict[JudgedTensors, list[str]]:
    """Return the names of an update's tensors by what they are judged with."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, value in message.tensors.items():
        if value.is_floating_point() and name != NOT_JUDGED:
            names[_kind(name)].append(name)
    return {
        JudgedTensors(kind, Layout.of({name: message.tensors[name] for name in found})): found
        for kind, found in names.items()
    }


def judge(settings: DefenceSettings, updates: Mapping[str, Message]) -> Judgement:
    """Compare the updates of a round.

    Args:
        settings: the limits.
        updates: by client; each is read several times, and may come from a file.
    """
    found = Judgement(settings.max_update_norm)
    norms: dict[JudgedTensors, dict[str, float]] = defaultdict(dict)
    for client, message in updates.items():
        for kind, row in _rows(message):
            norms[kind][client] = float(torch.linalg.vector_norm(row))
    for kind, by_client in norms.items():
        if len(by_client) < FEWEST:
            for client in by_client:
                found.not_judged[client].append(kind.name)
    if settings.max_update_norm is not None:
        for kind, by_client in norms.items():
            _judge_norms(found, settings, kind.name, by_client)
    if settings.min_cosine is not None:
        accepted = [name for name in updates if name not in found.refused]
        _judge_directions(found, settings.min_cosine, updates, accepted)
    return found


def _judge_norms(
    found: Judgement, settings: DefenceSettings, kind: str, norms: Mapping[str, float]
) -> None:
    """Scale down or refuse the updates whose tensors of a kind are too long."""
    limit = settings.max_update_norm
    if limit is None or len(norms) < FEWEST or not (median := statistics.median(norms.values())):
        return
    for client, norm in norms.items():
        ratio = norm / median
        found.norms[client][kind] = ratio
        if ratio <= limit:
            continue
        if settings.large_norm == "clip":
            found.factors[client][kind] = limit / ratio
        else:
            found.refused.setdefault(
                client,
                f"update of client {client!r} refused: its {kind} has norm {norm:.3g}, "
                f"{ratio:.3g} times the median of the round (defences.max_update_norm = {limit:g})",
            )


def _judge_directions(
    found: Judgement, limit: float, updates: Mapping[str, Message], clients: list[str]
) -> None:
    """Refuse the updates that point away from the mean direction of the others, the worst first.

    After each refusal the rest is compared anew. Otherwise one update that is opposed to the sum of
    the others would have all of them refused: honest updates at right angles to one another point
    away from it. Every update counts with length 1, so that no single one decides the direction.
    """
    while clients:
        cosines = _cosines(updates, clients)
        for (client, kind), cosine in cosines.items():
            found.cosines[client][kind] = cosine
        worst = min(cosines, key=cosines.__getitem__, default=None)
        if worst is None or cosines[worst] >= limit:
            return
        client, kind = worst
        found.refused[client] = (
            f"update of client {client!r} refused: its {kind} points away from the others' "
            f"(cosine {cosines[worst]:.2f}, defences.min_cosine = {limit:g})"
        )
        clients = [name for name in clients if name != client]


def _cosines(
    updates: Mapping[str, Message], clients: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Return the cosine of each client's tensors of a kind with the mean of the others'."""
    sums: dict[JudgedTensors, Tensor] = {}
    counts = Counter[JudgedTensors]()
    for client in clients:
        for kind, row in _rows(updates[client]):
            if norm := float(torch.linalg.vector_norm(row)):
                counts[kind] += 1
                unit = row.div_(norm)
                sums[kind] = sums[kind].add_(unit) if kind in sums else unit
    cosines = {}
    for client in clients:
        for kind, row in _rows(updates[client]):
            norm = float(torch.linalg.vector_norm(row))
            if not norm or counts[kind] < FEWEST:
                continue
            unit = row.div_(norm)
            others = sums[kind] - unit
            length = float(torch.linalg.vector_norm(others))
            cosines[client, kind.name] = float(unit @ others) / length if length else 0.0
    return cosines


def _rows(message: Message) -> Iterator[tuple[JudgedTensors, Tensor]]:
    """Yield the tensors of each kind as one row in float64, in which no square overflows."""
    for kind, names in kinds_of(message).items():
        parts = [message.tensors[name].detach().reshape(-1) for name in sorted(names)]
        yield kind, torch.cat([part.double().cpu() for part in parts])


def _kind(name: str) -> str:
    """Return what a tensor is judged with: ``P`` for ``block.0.q_proj.P``."""
    parts = name.split(".")
    if parts[0] in SCOPES:
        return parts[-1]
    return f"{parts[0]} {parts[-1]}" if len(parts) > 1 and parts[1] in SCOPES else parts[0]


def without_effect(
    settings: DefenceSettings, algorithm: Algorithm, members: Sequence[Member]
) -> list[str]:
    """Say which defences do nothing in a run, and why."""
    if not settings.trim:
        return []
    if not algorithm.trims:
        return [
            f"defences.trim has no effect: {algorithm.name} forms no mean of its clients' numbers"
        ]
    counts = Counter(member.architecture for member in members)
    return [
        f"defences.trim = {settings.trim:g} leaves nothing out for {name}: with {count} clients it "
        f"must be at least {1 / count:.3g}, and at least 3 clients must share a model"
        for name, count in counts.items()
        if settings.trim * count < 1
    ]
