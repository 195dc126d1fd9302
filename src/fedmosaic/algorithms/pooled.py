"""Run Pooled: one adapter an architecture, trained on the data of all clients."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms.base import Client, FitReport, fit
from fedmosaic.algorithms.fedavg import FedAvg
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
        trained: dict[str, tuple[int, dict[str, Tensor], FitReport]] = client.cached(
            "pooled adapters", dict
        )
        architecture = client.backbone.name
        if architecture not in trained or trained[architecture][0] != client.round:
            report = self._fit(client)
            trained[architecture] = (client.round, read_state(client.model, "local"), report)
        _, adapter, report = trained[architecture]
        write_state(client.model, "local", adapter)
        return report

    def _fit(self, client: Client) -> FitReport:
        batches = self._batches(client)
        steps = len(self.scenario.clients) * self.steps
        return fit(
            client.model,
            client.backbone,
            Optimiser(self.parameters(client.model), self.scenario.train),
            lambda: next(batches),
            steps,
            dropout_seed=seed_for(self.seed, "pooled", client.backbone.identity, client.round),
            first_step=client.round * steps,
            total_steps=self.scenario.rounds * steps,
        )

    def _batches(self, client: Client) -> Iterator[Sequence[Example]]:
        """Yield the round's examples of all clients, mixed.

        Earlier rounds are drawn again, since what a stream draws depends on them.
        """
        streams = [stream for _, stream in sorted(client.all_streams().items())]
        drawn: list[tuple[ClientStream, tuple[int, int]]] = []
        for number in range(client.round + 1):
            drawn = []
            for stream in streams:
                stream.begin_round(number)
                for _ in range(self.steps):
                    drawn += [(stream, sample) for sample in stream.next_batch()]
        draw = generator(self.seed, "pooled", client.round)
        order = torch.randperm(len(drawn), generator=draw).tolist()
        size = self.scenario.train.batch_size
        for start in range(0, len(order), size):
            batch = [drawn[index] for index in order[start : start + size]]
            yield [stream.examples([sample])[0] for stream, sample in batch]
