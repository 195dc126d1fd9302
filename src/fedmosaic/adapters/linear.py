"""Define the two kinds of adapted linear layer: Co-LoRA and ordinary LoRA."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft.tuners._buffer_dict import BufferDict
from torch import Tensor, nn

from fedmosaic.adapters.config import CoLoraConfig
from fedmosaic.adapters.functional import CoLoraPass, LoraPass, colora_change, lora_change
from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.adapters.merging import merge_dtype
from fedmosaic.adapters.saved_pair import AwaitedPair, accept_pair
from fedmosaic.adapters.subspace import random_pair, svd_pair
from fedmosaic.errors import ModelError
from fedmosaic.seeding import generator


class CoLoraLinear(AdaptedLinear):
    """Compute ``h = W x + s B (P A x + Q)`` with trained P ``[r, r]`` and Q ``[r]``.

    P and Q are zero at the start. With ``q=False`` in the config there is no Q. A and B are one
    frozen pair for all adapters of the layer. They are buffers: never in an optimiser, and saved
    with every adapter.
    """

    adapter_layer_names = ("colora_P", "colora_Q", "colora_beta")
    low_rank_names: tuple[str, ...] = ("colora_P", "colora_Q")
    pass_kind = CoLoraPass

    def delta(self, x: Tensor, name: str) -> Tensor:
        """Compute ``s B (P A x + Q)`` in plain operations."""
        p, q = self._trained(name, x.dtype)
        return colora_change(x, *self._shared(x.dtype), p, q, self.colora_scaling[name])

    def operands(self, names: list[str], dtype: torch.dtype) -> tuple[Any, ...]:
        """Return A, B, P and Q of the local and the received adapter, beta, and the scale."""
        local, received = (names[0], None) if len(names) == 1 else self.colora_pair
        scale = self.colora_scaling[local]
        p, q = self._trained(local, dtype)
        p_global = q_global = beta = None
        if received is not None:
            p_global, q_global = self._trained(received, dtype)
            ratio = self.colora_scaling[received] / scale
            if ratio != 1.0:  # the pass has one scale, the local adapter's
                p_global = p_global * ratio
                q_global = None if q_global is None else q_global * ratio
            beta = self.colora_beta[local].to(dtype)
        a, b = self._shared(dtype)
        return a, b, p, q, p_global, q_global, beta, scale

    def _trained(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
        """Return P and Q of an adapter; None for an adapter without Q."""
        q = self.colora_Q[name].to(dtype) if name in self.colora_Q else None
        return self.colora_P[name].to(dtype), q

    def _shared(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        if self.colora_awaits is not None:
            accept_pair(self)
        return self.shared_colora["frozen_A"].to(dtype), self.shared_colora["frozen_B"].to(dtype)

    def _make_parameters(self, config: CoLoraConfig) -> None:
        self.low_rank_names = ("colora_P", "colora_Q") if config.q else ("colora_P",)
        self.colora_P = nn.ParameterDict()
        self.colora_Q = nn.ParameterDict()
        # Not called "colora_…": Transformers would look for an A and B of every adapter's own.
        self.shared_colora = BufferDict(persistent=True)
        self.colora_awaits: AwaitedPair | None = None

    def _add_parameters(self, adapter_name: str, config: CoLoraConfig) -> None:
        r = self.colora_r[adapter_name] = config.shared_rank
        if len(self.colora_P) == 0 or set(self.colora_P) == {adapter_name}:
            self._make_shared(config)
        elif self.shared_colora["frozen_A"].shape[0] != r:
            raise ModelError(
                f"Adapter {adapter_name!r} has r = {r}, but the frozen A and B of the layer, which "
                f"all its adapters share, have r = {self.shared_colora['frozen_A'].shape[0]}: give "
                "all adapters of a model the same r."
            )
        if config.q != ("colora_Q" in self.low_rank_names):
            raise ModelError(
                f"Adapter {adapter_name!r} has q = {config.q}, but the model's earlier adapters "
                f"have q = {not config.q}: give all adapters of a model the same q."
            )
        self.colora_P[adapter_name] = nn.Parameter(
            torch.zeros(r, r) if config.init_weights else torch.randn(r, r)
        )
        if config.q:
            self.colora_Q[adapter_name] = nn.Parameter(
                torch.zeros(r) if config.init_weights else torch.randn(r)
            )

    def _make_shared(self, config: CoLoraConfig) -> None:
        weight = self.get_base_layer().weight
        rank, site = config.shared_rank, self.colora_site
        if config.shared_init == "svd":
            a, b = svd_pair(self.oriented(self.get_base_weight()), rank)
        else:
            widths = (self.in_features, self.out_features)
            a, b = random_pair(*widths, rank, config.seed, site.layer, site.module)
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        device = weight.device if weight.device.type != "meta" else torch.device("cpu")
        self.shared_colora["frozen_A"] = a.to(device, dtype)
        self.shared_colora["frozen_B"] = b.to(device, dtype)
        self.colora_shared_scale = config.shared_scale
        self.colora_b_scale = config.b_scale

    def train(self, mode: bool = True) -> CoLoraLinear:
        """Set the mode as usual; Transformers does so right after it has loaded an adapter."""
        accept_pair(self)
        super().train(mode)
        return self

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return ``s B P A``."""
        p = self.colora_P[adapter].detach()
        a, b = self._shared(merge_dtype(p.dtype))
        delta: Tensor = self.colora_scaling[adapter] * (b @ p.to(a.dtype) @ a)
        return delta

    def weighted_delta(self, factors: Mapping[str, float]) -> Tensor:
        """Return the sum of ``f s B P A`` over adapters with their factors f: B (sum f s P) A."""
        each = (
            self.colora_P[name].detach() * (f * self.colora_scaling[name])
            for name, f in factors.items()
        )
        a, b = self._shared(self.colora_P[next(iter(factors))].dtype)
        delta: Tensor = b @ sum(each) @ a
        return delta

    def get_delta_bias(self, adapter: str) -> Tensor | None:
        """Return ``s B Q``; None for an adapter without Q."""
        if adapter not in self.colora_Q:
            return None
        q = self.colora_Q[adapter].detach()
        _, b = self._shared(merge_dtype(q.dtype))
        delta: Tensor = self.colora_scaling[adapter] * (b @ q.to(b.dtype))
        return delta


class LoraLinear(AdaptedLinear):
    """Compute ``h = W x + s B A x`` with trained A ``[r, d_in]`` and B ``[d_out, r]``.

    This is ordinary LoRA (Hu et al., arXiv 2106.09685). B is zero at the start. A is drawn for
    (seed, layer, module), so all clients of one architecture and seed start from the same one.
    """

    adapter_layer_names = ("colora_A", "colora_B", "colora_beta")
    low_rank_names = ("colora_A", "colora_B")
    pass_kind = LoraPass

    def delta(self, x: Tensor, name: str) -> Tensor:
        """Compute ``s B A x`` in plain operations."""
        a, b = self.colora_A[name].to(x.dtype), self.colora_B[name].to(x.dtype)
        return lora_change(x, a, b, self.colora_scaling[name])

    def operands(self, names: list[str], dtype: torch.dtype) -> tuple[Any, ...]:
        """Return A and B of the local and the received adapter, beta, and both scales."""
        local, received = (names[0], None) if len(names) == 1 else self.colora_pair
        a, b = self.colora_A[local].to(dtype), self.colora_B[local].to(dtype)
        a_global = b_global = beta = None
        scales = [self.colora_scaling[local], 0.0]
        if received is not None:
            a_global = self.colora_A[received].to(dtype)
            b_global = self.colora_B[received].to(dtype)
            beta = self.colora_beta[local].to(dtype)
            scales[1] = self.colora_scaling[received]
        return a, b, a_global, b_global, beta, *scales

    def _make_parameters(self, config: CoLoraConfig) -> None:
        self.colora_A = nn.ParameterDict()
        self.colora_B = nn.ParameterDict()

    def _add_parameters(self, adapter_name: str, config: CoLoraConfig) -> None:
        draw = generator(config.seed, "lora", self.colora_site.layer, self.colora_site.module)
        bound = self.in_features**-0.5
        a = torch.empty(config.r, self.in_features).uniform_(-bound, bound, generator=draw)
        b = torch.zeros(self.out_features, config.r)
        self.colora_A[adapter_name] = nn.Parameter(a)
        self.colora_B[adapter_name] = nn.Parameter(
            b if config.init_weights else torch.randn_like(b)
        )

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return ``s B A``."""
        a, b = self.colora_A[adapter].detach(), self.colora_B[adapter].detach()
        dtype = merge_dtype(a.dtype)
        delta: Tensor = self.colora_scaling[adapter] * (b.to(dtype) @ a.to(dtype))
        return delta

    def weighted_delta(self, factors: Mapping[str, float]) -> Tensor:
        """Return the sum of ``f s B A`` over adapters with their factors f, as one product."""
        a = [self.colora_A[name].detach() for name in factors]
        b = [
            self.colora_B[name].detach() * (factor * self.colora_scaling[name])
            for name, factor in factors.items()
        ]
        return torch.cat(b, dim=1) @ torch.cat(a)
