"""Run FedMosaic: Co-LoRA adapters that fit every architecture, mixed by task relevance (RELA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedmosaic.adapters import activate, read_state, write_state
from fedmosaic.adapters.keys import in_scope
from fedmosaic.algorithms.base import Algorithm, Client, LocalTraining, Member, Server
from fedmosaic.algorithms.common.colora import build_colora
from fedmosaic.algorithms.common.lora import parameter_groups
from fedmosaic.algorithms.common.many_clients import weights_in_blocks
from fedmosaic.algorithms.common.peer_weights import peer_weights
from fedmosaic.algorithms.common.weight_rows import (
    LISTED,
    WeightRows,
    listed,
    mix_all,
    mix_rows,
    recorded,
)
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.alignment import Alignment
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.host import to_device
from fedmosaic.relevance.privacy import PrivacyMechanism
from fedmosaic.relevance.signature import ema, signature_model
from fedmosaic.relevance.signature_model import SignatureModel
from fedmosaic.relevance.weights import restrict, same_label, similarity
from fedmosaic.training.optimiser import ParameterGroup

PAIR = ("local", "global")
BLOCKS, MIXED_BLOCKS = StateKey("block"), StateKey("mixed block")
SIGNATURES = StateKey("signature")


class FedMosaic(Algorithm):
    """Personalise models of different architectures together.

    Client i trains a local adapter L_i beside a frozen global one G_i, mixed by a learned gate g:

        h = W x + (1 − g) Δ_L(x) + g Δ_G(x),   Δ(x) = s·B (P A x + Q) at block ends, else s·B A x

    and keeps a gradient signature, from every m-th batch ĝ_i ← (1 − α) ĝ_i + α ∇. The server mixes

        S_ij = cos(ĝ_i, ĝ_j),   w_ij = softmax_{j≠i}(S_ij / τ),   G_i = Σ_j w_ij L_j

    P and Q over all clients; A and B of ordinary LoRA over the clients of the same architecture,
    with the weights re-normalised.

    - Up: P, Q, ordinary A and B of the local adapter, and the signature with noise. Gates stay.
    - Down: the client's own mixture G_i.

    Source: FedMosaic (arXiv 2506.11024), sections 4.1 (RELA) and 4.2 (Co-LoRA).

    Differences from the paper:

    - The frozen A and B of different models are aligned as the scenario's ``alignment`` says.
    - A client that is alone in its architecture receives its own A and B as the global ones.
    - A client that takes no part in a round counts with what it sent last.
    """

    name: ClassVar[str] = "fedmosaic"
    summary: ClassVar[str] = "Co-LoRA shared by all architectures, mixed by task relevance (RELA)"
    paper: ClassVar[str] = "FedMosaic, ICLR 2026 (arXiv 2506.11024)"
    adapters: ClassVar[tuple[str, ...]] = PAIR
    shares_subspaces: ClassVar[bool] = True
    computes_signatures: ClassVar[bool] = True
    views: ClassVar[tuple[str, ...]] = ("mixed", *PAIR)

    # --- Co-LoRA (section 4.2) --------------------------------------------------------------------
    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        subspaces = self.subspaces(backbone, alignment)
        adapter = self.scenario.adapter
        return build_colora(backbone, public, alignment, subspaces, adapter, self.seed)

    def subspaces(self, backbone: Backbone, alignment: Alignment | None) -> Mapping[str, Tensor]:
        """Return the frozen A and B of the architecture; empty: as drawn from the seed."""
        return {} if alignment is None else alignment.tensors

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        return parameter_groups(model, "local")

    def receive(self, client: Client, download: Message) -> None:
        if download.tensors:
            write_state(client.model, "global", download.tensors)

    def start_from_received(self, client: Client) -> None:
        write_state(client.model, "local", read_state(client.model, "global"))

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        active = PAIR if name == "mixed" else (name,)
        if list(active) == client.model.active_adapters:  # setting them takes a while
            yield client.model
            return
        activate(client.model, *active)
        try:
            yield client.model
        finally:
            activate(client.model, *PAIR)

    # --- RELA, client half (section 4.1) ----------------------------------------------------------
    def local_training(self, client: Client) -> LocalTraining:
        settings, signatures = self.scenario.relevance, self._signature_model(client)
        known = client.state.get("signature")

        def update_signature(step: int, examples: Sequence[Example]) -> None:
            nonlocal known
            if step % settings.every == 0:
                small = signatures.backbone
                batch = small.collate([small.encode(example) for example in examples])
                gradient = signatures.gradient(batch)
                # It stays on the device until the training ends, which so never waits for it.
                before = None if known is None else to_device(known, gradient.device)
                known = ema(before, gradient, settings.ema)

        def keep_signature() -> None:
            if known is not None:
                client.state["signature"] = known.cpu()

        return LocalTraining(self.steps, update_signature, keep_signature)

    def upload(self, client: Client) -> Message:
        settings = self.scenario.relevance
        signature = client.state.get("signature")
        if signature is None:
            signature = torch.zeros(self._signature_model(client).size)
        privatise = PrivacyMechanism(settings.noise, settings.noise_std, settings.clip)
        sent = privatise(signature, client.signature_noise)
        return Message({**read_state(client.model, "local"), "signature": sent})

    def _signature_model(self, client: Client) -> SignatureModel:
        settings = self.scenario.relevance

        def make() -> SignatureModel:
            return signature_model(client.other_backbone(settings.model), settings.keep, self.seed)

        made: SignatureModel = client.cached("signature model", make)
        return made

    # --- RELA, server half (section 4.1) ----------------------------------------------------------
    def take(self, server: Server, member: Member, update: Message) -> Message:
        if not update.tensors:
            return update
        state, name, layers = server.state, member.name, StateKey("layer", member.architecture)
        state.put(BLOCKS, in_scope(update.tensors, "block"), name)
        state.put(layers, in_scope(update.tensors, "layer"), name)
        state.put(SIGNATURES, {"signature": update.tensors["signature"]}, name)
        return Message()

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        state = server.state
        model_of = {member.name: member.architecture for member in server.members}
        for member in server.members:
            if member.name in updates:
                self.take(server, member, updates[member.name])
        names = state.clients(BLOCKS)
        if len(names) > self.scenario.server.dense_clients or server.receivers is not None:
            self._mix_in_blocks(server, sorted(names), model_of)
            return
        similarities = similarity(state.matrix(SIGNATURES))
        weights = self.peer_weights(server, names, similarities)
        same_model = same_label([model_of[name] for name in names])
        mixing = self.block_weights(weights, same_model)
        mix_all(state, BLOCKS, MIXED_BLOCKS, names, mixing)
        own = restrict(weights, same_model)
        for model in dict.fromkeys(model_of[name] for name in names):
            layers, mixed = StateKey("layer", model), StateKey("mixed layer", model)
            rows = [index for index, name in enumerate(names) if model_of[name] == model]
            mix_all(state, layers, mixed, [names[row] for row in rows], own[rows][:, rows])
        count = self.scenario.relevance.top_k or LISTED
        server.record("relevance", recorded(names, weights, similarities, count))

    def _mix_in_blocks(
        self, server: Server, names: Sequence[str], model_of: Mapping[str, str]
    ) -> None:
        """Do the same for many clients or for few receivers, without matrices [n, n]."""
        settings, state = self.scenario.relevance, server.state
        models = list(dict.fromkeys(model_of[name] for name in names))
        labels = torch.tensor([models.index(model_of[name]) for name in names])
        whole = partial(self.peer_weights, server)
        most = None if server.receivers is None else len(server.receivers)
        with weights_in_blocks(settings, server, SIGNATURES, names, whole) as blocks:

            def of_blocks(found: WeightRows) -> WeightRows:
                same, own = found.same(labels), found.own()
                return replace(found, values=self.block_weights(found.values, same, own))

            mix_rows(state, BLOCKS, MIXED_BLOCKS, names, map(of_blocks, blocks()), most)
            for number, model in enumerate(models):
                members = (labels == number).nonzero().flatten()

                def of_layers(found: WeightRows, members: Tensor = members) -> WeightRows:
                    own = restrict(found.values, found.same(labels), found.own())
                    return replace(found, values=own).among(members, len(names))

                layers, mixed = StateKey("layer", model), StateKey("mixed layer", model)
                of_model = [names[place] for place in members.tolist()]
                mix_rows(state, layers, mixed, of_model, map(of_layers, blocks()), most)
            count = settings.top_k or LISTED
            server.record("relevance", listed(names, blocks(), count))

    def peer_weights(self, server: Server, names: Sequence[str], similarities: Tensor) -> Tensor:
        """Return w, [n, n], from the similarity of the clients' signatures; rows sum to 1."""
        return peer_weights(self.scenario.relevance, server, names, similarities)

    def block_weights(
        self, weights: Tensor, same_model: Tensor, own: Tensor | None = None
    ) -> Tensor:
        """Return the weights that mix P and Q.

        Args:
            weights: w, [n, n], or some of its rows and columns.
            same_model: bool, whether two clients have one architecture.
            own: bool, whether two clients are the same one; None: on the diagonal.
        """
        return weights

    def download(self, server: Server, member: Member) -> Message:
        layers = StateKey("mixed layer", member.architecture)
        blocks = server.state.get(MIXED_BLOCKS, member.name)
        return Message({**blocks, **server.state.get(layers, member.name)})
