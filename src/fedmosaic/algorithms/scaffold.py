"""Run SCAFFOLD: FedAvg with control variates that correct local gradients for client drift."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from fedmosaic.adapters import adapter_parameters
from fedmosaic.algorithms.base import Client, FitReport, Member, Server
from fedmosaic.algorithms.common.average import average, averaged, taking_part
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.layout import Layout
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey

WEIGHTS, CONTROL, COMMON = "layer.", "control.", "common."
MEAN_CONTROL = "mean control"


class Scaffold(FedAvg):
    """Correct every local gradient by the difference of two control variates.

    Each client has a control variate c_i, the server their mean c; all are 0 at the start. A
    client's step k of K uses

        g_k + c − c_i,        g_k = ∇F_i(y_k) on the batch

    in place of g_k, and after the round c_i ← 1/K Σ_k g_k. The server sets x ← 1/|S| Σ_{i∈S} y_i
    over the clients S of the round and c ← 1/N Σ_i c_i over all N clients, the absent ones with
    their old c_i. y are the adapter's A and B.

    - Up: y_i and c_i.
    - Down: x and c.

    Source: Karimireddy et al. 2020 (arXiv 1910.06378), Algorithm 1 with η_g = 1.

    Differences from the paper:

    - AdamW takes the steps; the corrected gradient is what clipping and AdamW see.
    - c_i is the mean of the gradients itself. The paper's option II, c_i − c + (x − y_K)/(K η), is
      that mean under SGD; under AdamW a step is not η times a gradient, and the quotient would not
      have a gradient's size.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "scaffold"
    summary: ClassVar[str] = "FedAvg with control variates against client drift"
    paper: ClassVar[str] = "Karimireddy et al. 2020 (arXiv 1910.06378)"

    # --- client half ------------------------------------------------------------------------------
    def receive(self, client: Client, download: Message) -> None:
        super().receive(client, Message(download.select(WEIGHTS)))
        client.state.update(
            {COMMON + name.removeprefix(CONTROL): c for name, c in download.select(CONTROL).items()}
        )

    def train(self, client: Client) -> FitReport:
        trained = adapter_parameters(client.model, "local")
        sums = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}

        def correction(name: str) -> Callable[[Tensor], Tensor]:
            zero = torch.zeros_like(sums[name])
            common, own = (
                client.state.get(kind + name, zero).to(zero) for kind in (COMMON, CONTROL)
            )

            def hook(gradient: Tensor) -> Tensor:
                sums[name] += gradient
                return gradient + (common - own)

            return hook

        hooks = [parameter.register_hook(correction(name)) for name, parameter in trained.items()]
        try:
            report = client.fit(self.steps)
        finally:
            for handle in hooks:
                handle.remove()
        client.state.update(
            {CONTROL + name: (total / self.steps).cpu() for name, total in sums.items()}
        )
        return report

    def upload(self, client: Client) -> Message:
        sent = dict(super().upload(client).tensors)
        control = {
            CONTROL + name: client.state.get(CONTROL + name, torch.zeros_like(y))
            for name, y in sent.items()
        }
        return Message({**sent, **control})

    # --- server half ------------------------------------------------------------------------------
    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        trim = self.scenario.defences.trim
        average(server, updates, prefix=WEIGHTS, by_samples=False, trim=trim)
        for architecture, members in taking_part(server, updates).items():
            control = StateKey("control", architecture)
            for member in members:
                server.state.put(control, updates[member.name].select(CONTROL), member.name)
            layout = Layout.of(updates[members[0].name].select(CONTROL))
            clients = sum(member.architecture == architecture for member in server.members)
            mean = server.state.matrix(control).sum(0) / clients
            server.state.put(StateKey(MEAN_CONTROL, architecture), layout.split(mean))

    def download(self, server: Server, member: Member) -> Message:
        control = averaged(server, member.architecture, MEAN_CONTROL)
        return Message({**averaged(server, member.architecture), **control})
