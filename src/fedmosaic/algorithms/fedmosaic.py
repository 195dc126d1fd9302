"""FedMosaic: Co-LoRA adapters that fit every architecture, mixed for each client by the relevance of the others (RELA)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fedmosaic.adapters import (
    CoLoraConfig,
    activate,
    build_pair,
    calibrate,
    load_shared,
    read_state,
    write_state,
)
from fedmosaic.adapters.placement import Placement
from fedmosaic.algorithms.base import Algorithm, Client, FitReport, Member, Server
from fedmosaic.algorithms.common.lora import model_inputs, parameter_groups, target_pattern
from fedmosaic.algorithms.common.peer_weights import peer_weights
from fedmosaic.algorithms.message import Message
from fedmosaic.alignment import Alignment
from fedmosaic.alignment.rotation import rotated
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.relevance.privacy import PrivacyMechanism
from fedmosaic.relevance.signature import SignatureModel, ema
from fedmosaic.relevance.weights import mix, restrict, same_label, similarity
from fedmosaic.seeding import seed_for
from fedmosaic.training.optimiser import ParameterGroup

PAIR = ("local", "global")


class FedMosaic(Algorithm):
    """Personalised federated learning over different architectures.

    Client i trains a local adapter L_i beside a frozen, received one G_i, mixed by a learned gate (section 2 of the method):

        h = W x + (1 − g) Δ_L(x) + g Δ_G(x),   Δ(x) = s·B (P A x + Q) at block ends, s·B A x elsewhere

    and keeps a gradient signature ĝ_i ← (1 − α) ĝ_i + α ∇ of every m-th batch. The server mixes

        S_ij = cos(ĝ_i, ĝ_j),   w_ij = softmax_{j≠i}(S_ij / τ),   G_i = Σ_j w_ij L_j

    P, Q over all clients; ordinary LoRA over those of the same architecture with weights re-normalised; a client alone in its
    architecture keeps its own.

    Extensions, not in the paper: ``pull`` p moves the local adapter before each round, L_i ← (1 − p) L_i + p G_i; ``pull_shared``
    does so for P and Q alone, so that with 1 every client's P starts its round from what it received. ``foreign`` c mixes P and Q of the
    own architecture and of the others apart, and adds them: over a client's peers j, with weights that sum to 1 in either part,

        P_i ← Σ_{j like i} w'_ij P_j + c Σ_{j unlike i} w″_ij P_j

    so that what comes from other models takes nothing from what comes from one's own, and can be as strong as a P must be in a model
    that is not its own; 0 is ``share: architecture``.

    Source: arXiv 2506.11024, sections 4.1 (RELA) and 4.2 (Co-LoRA).
    """

    name: ClassVar[str] = "fedmosaic"
    summary: ClassVar[str] = "Co-LoRA shared by all architectures, mixed by task relevance (RELA)"
    paper: ClassVar[str] = "FedMosaic, ICLR 2026 (arXiv 2506.11024)"
    adapters: ClassVar[tuple[str, ...]] = ("local", "global")
    shares_subspaces: ClassVar[bool] = True
    views: ClassVar[tuple[str, ...]] = ("mixed", "local", "global")

    class Options(Algorithm.Options):
        """``pull``: share of the global adapter that enters the local one before each round; 0 is the paper.
        ``pull_shared``: the same for P and Q; None: as ``pull``.
        ``share``: P and Q are mixed over ``all`` clients, those of one ``architecture``, or not at all (``none``). ``share_layers``: the
        same of ordinary LoRA. What is not shared does not leave the client, and its global branch has its own.
        ``foreign``: weight of the other architectures' P, Q beside the own one's; None: one mix of all, the paper.
        ``turned``: a control: every architecture's aligned A, B rotated (:func:`fedmosaic.alignment.rotation.rotated`);
        without an alignment they are unrelated anyway.
        """

        pull: float = Field(default=0.0, ge=0, le=1)
        pull_shared: float | None = Field(default=None, ge=0, le=1)
        foreign: float | None = Field(default=None, ge=0)
        turned: bool = False
        share: Literal["all", "architecture", "none"] = "all"
        share_layers: Literal["architecture", "none"] = "architecture"

        @model_validator(mode="after")
        def _something(self) -> FedMosaic.Options:
            if self.share == self.share_layers == "none":
                raise ValueError(
                    "share and share_layers: nothing would be shared; that is the algorithm fedmosaic-alone"
                )
            return self

    # --- client half ------------------------------------------------------------------------------------------------
    def build(self, backbone: Backbone, public: Sequence[Example]) -> Any:
        return self.build_aligned(backbone, public, None)

    def build_aligned(
        self, backbone: Backbone, public: Sequence[Example], aligned: Alignment | None
    ) -> Any:
        settings = self.scenario.adapter
        # Refined A and B carry the strength at which they were refined.
        scaled = aligned is not None and aligned.scaled
        config = CoLoraConfig(
            r=settings.r,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            shared_r=settings.shared_r,
            shared_modules=None
            if settings.shared_modules is None
            else list(settings.shared_modules),
            num_blocks=max(settings.num_blocks, 1),
            block_layers=self._block_layers(backbone, aligned),
            target_modules=target_pattern(backbone, settings),
            gate=settings.gate,
            gate_init=settings.gate_init,
            shared_init=settings.shared_init,
            shared_scale=settings.shared_scale
            if public and settings.num_blocks and not scaled
            else "raw",
            b_scale=settings.b_scale,
            seed=seed_for(self.seed, "colora") % 2**31,
        )
        model = build_pair(backbone.fork(), config)
        if aligned is not None:
            own = (
                rotated(aligned.tensors, self.seed, backbone.identity)
                if self.options.turned
                else aligned.tensors
            )
            load_shared(model, own)
        if config.shared_scale == "unit":
            calibrate(model, model_inputs(backbone, public))
        # The first global adapter is the client's own initial one.
        write_state(model, "global", read_state(model, "local"))
        return model.eval()

    def _block_layers(self, backbone: Backbone, aligned: Alignment | None) -> list[int]:
        """Return the layers that end blocks."""
        if aligned is not None:
            return list(aligned.layers)
        placement = Placement.of(self.scenario.adapter)
        return list(placement.block_ends(backbone.num_layers)) if placement.num_blocks else []

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        return parameter_groups(model, "local")

    def receive(self, client: Client, download: Message) -> None:
        if not download.tensors:
            return
        write_state(client.model, "global", {**self._private(client), **download.tensors})
        pull, pull_shared = self.options.pull, self.options.pull_shared
        shares = {"layer": pull, "block": pull if pull_shared is None else pull_shared}
        if any(shares.values()):
            local = read_state(client.model, "local")
            received = {**local, **download.tensors}
            pulled = {
                key: torch.lerp(value, received[key].to(value), shares[key.partition(".")[0]])
                for key, value in local.items()
            }
            write_state(client.model, "local", pulled)

    def start_from_received(self, client: Client) -> None:
        write_state(client.model, "local", read_state(client.model, "global"))

    def train(self, client: Client) -> FitReport:
        every = self.scenario.relevance.every
        signatures = self._signatures(client)
        alpha = self.scenario.relevance.ema

        def observe(step: int, examples: Sequence[Example]) -> None:
            if step % every == 0:
                small = signatures.backbone
                batch = small.collate([small.encode(example) for example in examples])
                client.state["signature"] = ema(
                    client.state.get("signature"), signatures.gradient(batch).cpu(), alpha
                )

        return client.fit(self.steps, each_step=observe)

    def upload(self, client: Client) -> Message:
        settings = self.scenario.relevance
        signature = client.state.get("signature")
        if signature is None:
            signature = torch.zeros(self._signatures(client).size)
        privatise = PrivacyMechanism(settings.noise, settings.noise_std, settings.clip)
        sent = privatise(signature, client.generator("signature noise"))
        private = self._private(client)
        shared = {
            key: value
            for key, value in read_state(client.model, "local").items()
            if key not in private
        }
        return Message({**shared, "signature": sent})

    def _private(self, client: Client) -> dict[str, Tensor]:
        """The part of the local adapter that is not shared."""
        shares = {"block": self.options.share, "layer": self.options.share_layers}
        if "none" not in shares.values():
            return {}
        local = read_state(client.model, "local")
        return {
            key: value for key, value in local.items() if shares[key.partition(".")[0]] == "none"
        }

    def _signatures(self, client: Client) -> SignatureModel:
        settings = self.scenario.relevance

        def make() -> SignatureModel:
            return SignatureModel(client.other_backbone(settings.model), settings.keep, self.seed)

        made: SignatureModel = client.cached("signature model", make)
        return made

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        activate(client.model, *(PAIR if name == "mixed" else (name,)))
        try:
            yield client.model
        finally:
            activate(client.model, *PAIR)

    # --- server half ------------------------------------------------------------------------------------------------
    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        state = server.state
        architecture = {member.name: member.architecture for member in server.members}
        for name, update in updates.items():
            state.put("block", name, update.select("block."))
            state.put(f"layer@{architecture[name]}", name, update.select("layer."))
            state.put("signature", name, update.select("signature"))
        names = state.clients("block")
        alike = similarity(state.matrix("signature"))
        weights = peer_weights(self.scenario, server, names, alike)
        alike_models = same_label([architecture[name] for name in names])
        within = restrict(weights, alike_models)
        across = within if self.options.share == "architecture" else weights
        if self.options.share == "all" and self.options.foreign is not None:
            across = (
                within + self.options.foreign * restrict(weights, ~alike_models) * ~alike_models
            )
        state.put_matrix("global block", "block", names, mix(across, state.matrix("block")))
        for kind in dict.fromkeys(f"layer@{architecture[name]}" for name in names):
            rows = [
                index for index, name in enumerate(names) if f"layer@{architecture[name]}" == kind
            ]
            mixed = mix(within[rows][:, rows], state.matrix(kind))
            state.put_matrix(f"global {kind}", kind, [names[row] for row in rows], mixed)
        server.report["relevance"] = {
            "clients": names,
            "weights": weights.tolist(),
            "similarity": alike.tolist(),
        }

    def download(self, server: Server, member: Member) -> Message:
        state = server.state
        layers = state.get(f"global layer@{member.architecture}", member.name)
        return Message({**state.get("global block", member.name), **layers})
