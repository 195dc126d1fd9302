"""Run Fed-SB: a small matrix R between frozen B and A is trained and averaged exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from peft import get_peft_model
from pydantic import Field
from torch import Tensor

from fedmosaic.adapters import CoLoraConfig, CoLoraLinear, load_shared, write_state
from fedmosaic.algorithms.base import Client, Member, Server
from fedmosaic.algorithms.common.average import average
from fedmosaic.algorithms.common.first_step import leading_subspaces, summed_gradients
from fedmosaic.algorithms.common.lora import parameter_groups, quiet_peft, target_pattern
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import StateKey
from fedmosaic.alignment import Alignment
from fedmosaic.config import Scenario
from fedmosaic.data.example import Example
from fedmosaic.errors import ConfigError, UpdateError
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator, seed_for
from fedmosaic.training.optimiser import ParameterGroup

FRAME = "frame"
TOLERANCE = 0.01
"""Largest difference of B and A between clients, relative to their norm."""


class FedSB(FedAvg):
    """Train R between frozen B and A, equal for all clients of an architecture, and average it.

        h = W x + s B R A x
        R ← Σ_i w_i R_i,   so that   s·B R A = Σ_i w_i s·B R_i A,   w_i = n_i / Σ_j n_j

    B and A come from the first step of full fine-tuning (LoRA-SB), estimated on public examples:

        U S Vᵀ = −η sign(Σ ∇L),   B = U[:, :r],   A = Vᵀ[:r],   R = S[:r, :r] / s

    so that B R A is its best approximation at rank r.

    - Up: R_i, r² numbers for each module, and one number that depends on its B and A. An update
      whose B and A are not those of the other clients is refused.
    - Down: R.

    Source: Singhal et al. 2025 (arXiv 2502.15436); the initialisation: LoRA-SB, Ponkshe et al. 2024
    (arXiv 2411.19557); η and the sum over examples: the authors' code.

    Differences from the paper:

    - The authors' code estimates the first step on data of all clients, which no server here has.
      Each client computes it on public examples, from the same ones the same step: B and A are
      never sent.
    - R stands where Co-LoRA has P. Its learning rate is ``train.lr``, as that of other adapters.
    - The SVD is exact; the authors' is a randomised one.
    - Clients count by their samples. The paper's mean is uniform.
    - Clients of different architectures share nothing.
    """

    name: ClassVar[str] = "fed-sb"
    summary: ClassVar[str] = "a small matrix R between frozen B and A is trained and averaged"
    paper: ClassVar[str] = "Fed-SB, 2025 (arXiv 2502.15436)"

    class Options(FedAvg.Options):
        """Hold the settings of Fed-SB."""

        start: Literal["gradient", "random"] = "gradient"
        """B, A and R at the start: the first step on public examples, or random orthonormal B and A
        with R = 0, which needs no public examples."""
        examples: int = Field(default=50, ge=1)
        """Number of public examples for the first step, from the first on."""
        warmup: int = Field(default=100, ge=1)
        """η is ``train.lr`` divided by this: the first step of a warm-up of so many steps.
        Training itself has no warm-up."""

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
        super().__init__(options, scenario, seed)
        if options.start == "gradient" and scenario.data.public == "none":
            raise ConfigError(
                "data.public: fed-sb takes its frozen matrices from gradients on public examples "
                "and the scenario has none; name a file or a set that every client may see, e.g. "
                "data.public=miniature/public, or set algorithms.fed-sb.start=random"
            )

    # --- client half ------------------------------------------------------------------------------
    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        settings = self.scenario.adapter
        config = CoLoraConfig(
            r=settings.r,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            block_layers="all",
            target_modules=target_pattern(backbone, settings),
            gate="none",
            q=False,
            shared_scale="raw",
            seed=seed_for(self.seed, "fed-sb", backbone.identity) % 2**31,
        )
        with quiet_peft():
            model = get_peft_model(backbone.fork(), config, adapter_name="local")
        if self.options.start == "gradient":
            self._start_from_first_step(model, backbone, public[: self.options.examples])
        return model.eval()

    def _start_from_first_step(
        self, model: Any, backbone: Backbone, public: Sequence[Example]
    ) -> None:
        """Set B, A and R to the first step of full fine-tuning on the examples."""
        settings, train = self.scenario.adapter, self.scenario.train
        rate = train.lr / self.options.warmup
        device = backbone.device if backbone.device.type == "cuda" else "cpu"
        sites = [m.colora_site for m in model.modules() if isinstance(m, CoLoraLinear)]
        frozen: dict[str, Tensor] = {}
        trained: dict[str, Tensor] = {}
        for key, gradient in summed_gradients(backbone, sites, public, train.batch_size).items():
            update = -rate * gradient.sign()
            found = leading_subspaces(update.to(device), settings.r)
            b, r, a = (value.float().cpu() for value in found)
            frozen |= {f"{key}.A": a, f"{key}.B": b}
            trained[f"{key}.P"] = r * settings.r / settings.alpha
        load_shared(model, frozen)
        write_state(model, "local", trained)

    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        (group,) = parameter_groups(model, "local")
        return [ParameterGroup("lora", group.parameters)]

    def upload(self, client: Client) -> Message:
        found = super().upload(client)
        return Message({**found.tensors, FRAME: frame_of(client.model)})

    # --- server half ------------------------------------------------------------------------------
    def take(self, server: Server, member: Member, update: Message) -> Message:
        key, own = StateKey(FRAME, member.architecture), update.tensors[FRAME].float().cpu()
        first = server.state.get(key).get(FRAME)
        if first is None:
            server.state.put(key, {FRAME: own})
        elif (own - first).norm() > TOLERANCE * first.norm():
            raise UpdateError(
                f"its frozen B and A are not those of the first client with {member.architecture}, "
                "so their R cannot be averaged. Gradients of low precision, or on other hardware, "
                "can lead to others: set models.dtype=float32 or algorithms.fed-sb.start=random"
            )
        return update

    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        average(server, updates, prefix="block.", trim=self.scenario.defences.trim)


def frame_of(model: Any) -> Tensor:
    """Return a number for each module that changes when its B and A change, float32 [modules].

    It is Σ_k k/r (u·B_k)(A_k·v) over the r directions, with random signs u and v. It differs, too,
    where B and A span the same subspaces by other directions.
    """
    found = []
    for layer in model.modules():
        if isinstance(layer, CoLoraLinear):
            a, b = (layer.shared_colora[name].double().cpu() for name in ("frozen_A", "frozen_B"))
            draw = generator("fed-sb frame", layer.colora_site.key)
            u, v = (
                torch.randint(0, 2, (size,), generator=draw).double() * 2 - 1
                for size in (b.shape[0], a.shape[1])
            )
            place = torch.arange(1, len(a) + 1).double() / len(a)
            found.append((u @ b * place) @ (a @ v))
    return torch.stack(found).float()
