"""SCAFFOLD: FedAvg whose local gradients are corrected for what the client pulls that the others do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

import torch
from torch import Tensor

from fedmosaic.adapters import adapter_parameters
from fedmosaic.algorithms.base import Client, FitReport, Member, Server
from fedmosaic.algorithms.common.average import average, averaged, taking_part
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message

WEIGHTS, CONTROL, COMMON = "layer.", "control.", "common."


class Scaffold(FedAvg):
    """Each client has a control variate c_i, the server their mean c; all are 0 at the start. A client's step k of K uses

        g_k + c − c_i,        g_k = ∇F_i(y_k) on the batch

    in place of g_k, and after the round c_i ← 1/K Σ_k g_k. The server sets x ← 1/|S| Σ_{i∈S} y_i over the clients S of the round
    and c ← 1/N Σ_i c_i over all N clients, the absent ones with their old c_i. As in the paper every client weighs the same, and
    clients of different architectures share nothing.

    With AdamW and LoRA: y are the adapter's A and B; the corrected gradient is what clipping and AdamW see. The paper's option II,
    c_i ← c_i − c + (x − y_K)/(K η), is under SGD exactly the mean of the gradients g_k along the way. Under AdamW a step
    is no longer η times a gradient, and that quotient would not have a gradient's size; so the mean itself is kept.

    Source: Karimireddy et al. 2020 (arXiv 1910.06378), Algorithm 1 with η_g = 1.
    """

    name: ClassVar[str] = "scaffold"
    summary: ClassVar[str] = "FedAvg with control variates against client drift"
    paper: ClassVar[str] = "Karimireddy et al. 2020 (arXiv 1910.06378)"

    # --- client half ------------------------------------------------------------------------------------------------
    def receive(self, client: Client, download: Message) -> None:
        super().receive(client, Message(download.select(WEIGHTS)))
        client.state.update(
            {COMMON + name.removeprefix(CONTROL): c for name, c in download.select(CONTROL).items()}
        )

    def train(self, client: Client) -> FitReport:
        trained = adapter_parameters(client.model, "local")
        sums = {name: torch.zeros_like(parameter) for name, parameter in trained.items()}

        def correct(name: str) -> Callable[[Tensor], Tensor]:
            zero = torch.zeros_like(sums[name])
            common, own = (
                client.state.get(kind + name, zero).to(zero) for kind in (COMMON, CONTROL)
            )

            def hook(gradient: Tensor) -> Tensor:
                sums[name] += gradient
                return gradient + (common - own)

            return hook

        hooks = [parameter.register_hook(correct(name)) for name, parameter in trained.items()]
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

    # --- server half ------------------------------------------------------------------------------------------------
    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        average(server, updates, prefix=WEIGHTS, by_samples=False)
        for architecture, members in taking_part(server, updates).items():
            kind = f"control@{architecture}"
            for member in members:
                server.state.put(kind, member.name, updates[member.name].select(CONTROL))
            everyone = sum(member.architecture == architecture for member in server.members)
            mean = server.state.matrix(kind).sum(0) / everyone
            server.state.put_matrix(
                f"mean control@{architecture}", kind, [architecture], mean[None]
            )

    def download(self, server: Server, member: Member) -> Message:
        control = averaged(server, member.architecture, into="mean control")
        return Message({**averaged(server, member.architecture), **control})
