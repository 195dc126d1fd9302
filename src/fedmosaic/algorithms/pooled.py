"""Run Pooled: one adapter an architecture, or one an architecture and group, on all their data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Client, FitReport, Member, Server, fit
from fedmosaic.algorithms.common.average import MEAN
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.data import ClientStream
from fedmosaic.data.example import Example
from fedmosaic.seeding import generator, seed_for
from fedmosaic.training.optimiser import Optimiser


class Pooled(FedAvg):
    """Train on all data: an ORACLE for simulations, in which private data leave their clients.

    Each architecture has one LoRA adapter. In a round it takes the steps of all N clients, N ×
    ``steps``, on the examples that all of them would draw from their streams in that round, in one
    random order. It sees as much of every task as local training does at its client, and costs N
    times as much an architecture. All clients of an architecture have the same adapter: the first
    of them in a process trains it, and the others copy it.

    No budget limits it: with ``budget: flops`` or ``bytes`` it still takes ``steps`` a client and
    all rounds, while other algorithms keep to the budget. Its compute stands in the run's summary.

    - Up and down: as :class:`FedAvg`; all adapters of an architecture are equal.

    Source: training on the collected data, to which McMahan et al. 2017 (arXiv 1602.05629) compare
    federated training.
    """

    name: ClassVar[str] = "pooled"
    summary: ClassVar[str] = (
        "ORACLE, not federated, outside every budget: one LoRA an architecture trained on all data"
    )
    exchange: ClassVar[str] = "the training data of all clients (an oracle)"
    oracle: ClassVar[bool] = True
    budgeted: ClassVar[bool] = False

    def train(self, client: Client) -> FitReport:
        trained: dict[tuple[str, ...], tuple[int, dict[str, Tensor], FitReport]] = client.cached(
            "pooled adapters", dict
        )
        pool = self.pool(client)
        key = (client.backbone.name, *pool)
        if key not in trained or trained[key][0] != client.round:
            report = self._fit(client, pool)
            trained[key] = (client.round, read_state(client.model, "local"), report)
        _, adapter, report = trained[key]
        write_state(client.model, "local", adapter)
        return report

    def pool(self, client: Client) -> list[str]:
        """Return the clients on whose data a client's adapter is trained, sorted by name."""
        return sorted(other.name for other in self.scenario.clients)

    def seed_names(self, client: Client) -> tuple[str, ...]:
        """Return what names the random numbers of a client's pool."""
        return ("pooled",)

    def _fit(self, client: Client, pool: Sequence[str]) -> FitReport:
        batches = self._batches(client, pool)
        steps = len(pool) * self.steps
        return fit(
            client.model,
            client.backbone,
            Optimiser(self.parameters(client.model), self.scenario.train),
            lambda: next(batches),
            steps,
            dropout_seed=seed_for(
                self.seed, *self.seed_names(client), client.backbone.identity, client.round
            ),
            first_step=client.round * steps,
            total_steps=self.scenario.rounds * steps,
        )

    def _batches(self, client: Client, pool: Sequence[str]) -> Iterator[Sequence[Example]]:
        """Yield the round's examples of all clients of a pool, mixed.

        Earlier rounds are drawn again, since what a stream draws depends on them.
        """
        every = client.all_streams()
        streams = [every[name] for name in pool]
        drawn: list[tuple[ClientStream, tuple[int, int]]] = []
        for number in range(client.round + 1):
            drawn = []
            for stream in streams:
                stream.begin_round(number)
                for _ in range(self.steps):
                    drawn += [(stream, sample) for sample in stream.next_batch()]
        draw = generator(self.seed, *self.seed_names(client), client.round)
        order = torch.randperm(len(drawn), generator=draw).tolist()
        size = self.scenario.train.batch_size
        for start in range(0, len(order), size):
            batch = [drawn[index] for index in order[start : start + size]]
            yield [stream.examples([sample])[0] for stream, sample in batch]


class PooledGroup(Pooled):
    """Train on all data of a client's group: an ORACLE, in which private data leave their clients.

    As :class:`Pooled`, with one LoRA adapter for each architecture and group of clients, trained on
    the data of that group's clients alone, of whatever architecture. It shows what could be won if
    clients with one kind of tasks shared everything. Clients without a group form one.

    - Up: A and B of every layer.
    - Down: the adapter of the client's architecture and group; all of them are equal.

    Source: a variant of :class:`Pooled`, not in a paper.
    """

    name: ClassVar[str] = "pooled-group"
    summary: ClassVar[str] = (
        "ORACLE, not federated, outside every budget: one LoRA an architecture and group, trained "
        "on the group's data"
    )
    exchange: ClassVar[str] = "the training data of the clients of a group (an oracle)"
    trims: ClassVar[bool] = False

    def group(self, name: str) -> str:
        """Return the group of a client."""
        return next(client.group for client in self.scenario.clients if client.name == name)

    def pool(self, client: Client) -> list[str]:
        group = self.group(client.name)
        return [name for name in super().pool(client) if self.group(name) == group]

    def seed_names(self, client: Client) -> tuple[str, ...]:
        return ("pooled", self.group(client.name))

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        for member in server.members:
            if member.name in updates:
                server.state.put(self._key(member), updates[member.name].tensors)

    def download(self, server: Server, member: Member) -> Message:
        return Message(server.state.get(self._key(member)))

    def _key(self, member: Member) -> StateKey:
        return StateKey(MEAN, f"{member.architecture} {self.group(member.name)}")
