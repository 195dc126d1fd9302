"""The two kinds of adapted linear layer: Co-LoRA (frozen A and B, trained P and Q) and ordinary LoRA."""

from __future__ import annotations

import torch
from peft.tuners._buffer_dict import BufferDict
from torch import Tensor, nn

from fedmosaic.adapters.config import CoLoraConfig
from fedmosaic.adapters.functional import CoLoraPass, LoraPass
from fedmosaic.adapters.layer import AdaptedLinear, exact_dtype
from fedmosaic.adapters.subspace import random_pair, svd_pair
from fedmosaic.errors import ModelError
from fedmosaic.seeding import generator


class CoLoraLinear(AdaptedLinear):
    """``h = W x + s B (P A x + Q)`` with trained P ``[r, r]`` and Q ``[r]`` (zero at the start).

    A and B are one frozen pair for all adapters of the layer, in buffers: never in an optimiser, saved with every
    adapter.
    """

    adapter_layer_names = ("colora_P", "colora_Q", "colora_beta")
    low_rank_names = ("colora_P", "colora_Q")

    def _make_parameters(self) -> None:
        self.colora_P = nn.ParameterDict()
        self.colora_Q = nn.ParameterDict()
        self.colora_shared = BufferDict(persistent=True)

    def _add_parameters(self, adapter_name: str, config: CoLoraConfig) -> None:
        r = self.colora_r[adapter_name] = config.shared_rank
        if len(self.colora_P) == 0 or set(self.colora_P) == {adapter_name}:
            self._make_shared(config)
        elif self.colora_shared["frozen_A"].shape[0] != r:
            raise ModelError(
                f"Adapter {adapter_name!r} has r = {r}, but the frozen A and B of the layer, which all its adapters "
                f"share, have r = {self.colora_shared['frozen_A'].shape[0]}: give all adapters of a model the same r."
            )
        self.colora_P[adapter_name] = nn.Parameter(
            torch.zeros(r, r) if config.init_weights else torch.randn(r, r)
        )
        self.colora_Q[adapter_name] = nn.Parameter(
            torch.zeros(r) if config.init_weights else torch.randn(r)
        )

    def _make_shared(self, config: CoLoraConfig) -> None:
        weight = self.get_base_layer().weight
        if config.shared_init == "svd":
            a, b = svd_pair(self.get_base_weight(), config.shared_rank)
        else:
            place = self.colora_site
            rank = config.shared_rank
            a, b = random_pair(
                self.in_features, self.out_features, rank, config.seed, place.layer, place.module
            )
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        device = weight.device if weight.device.type != "meta" else torch.device("cpu")
        self.colora_shared["frozen_A"] = a.to(device, dtype)
        self.colora_shared["frozen_B"] = b.to(device, dtype)
        self.colora_shared_scale = config.shared_scale
        self.colora_b_scale = config.b_scale

    def _shared(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return self.colora_shared["frozen_A"].to(dtype), self.colora_shared["frozen_B"].to(dtype)

    def _single(self, x: Tensor, linear: nn.Module | None, name: str) -> Tensor:
        p, q = self.colora_P[name].to(x.dtype), self.colora_Q[name].to(x.dtype)
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        scale = self.colora_scaling[name]
        shared = self._shared(x.dtype)
        result: Tensor = CoLoraPass.apply(x, weight, bias, *shared, p, q, None, None, None, scale)
        return result

    def _scalar_pair(self, x: Tensor, linear: nn.Module | None) -> Tensor:
        local, received = self.colora_pair
        p, q = self.colora_P[local].to(x.dtype), self.colora_Q[local].to(x.dtype)
        p_global, q_global = (
            self.colora_P[received].to(x.dtype),
            self.colora_Q[received].to(x.dtype),
        )
        scale, ratio = (
            self.colora_scaling[local],
            self.colora_scaling[received] / self.colora_scaling[local],
        )
        if ratio != 1.0:
            p_global, q_global = p_global * ratio, q_global * ratio
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        beta = self.colora_beta[local].to(x.dtype)
        scale *= self.colora_mix_scale
        return CoLoraPass.apply(  # type: ignore[no-any-return]
            x, weight, bias, *self._shared(x.dtype), p, q, p_global, q_global, beta, scale
        )

    def _plain_delta(self, x: Tensor, name: str) -> Tensor:
        a, b = self._shared(x.dtype)
        u = nn.functional.linear(
            nn.functional.linear(x, a),
            self.colora_P[name].to(x.dtype),
            self.colora_Q[name].to(x.dtype),
        )
        delta: Tensor = nn.functional.linear(u, b) * self.colora_scaling[name]
        return delta

    def get_delta_weight(self, adapter: str) -> Tensor:
        """``s B P A``."""
        p = self.colora_P[adapter].detach()
        a, b = self._shared(exact_dtype(p.dtype))
        delta: Tensor = self.colora_scaling[adapter] * (b @ p.to(a.dtype) @ a)
        return delta

    def get_delta_bias(self, adapter: str) -> Tensor | None:
        """``s B Q``."""
        q = self.colora_Q[adapter].detach()
        _, b = self._shared(exact_dtype(q.dtype))
        delta: Tensor = self.colora_scaling[adapter] * (b @ q.to(b.dtype))
        return delta


class LoraLinear(AdaptedLinear):
    """``h = W x + s B A x`` with both A ``[r, d_in]`` and B ``[d_out, r]`` trained (Hu et al., arXiv 2106.09685); B
    starts as zero.

    A is drawn for (seed, layer, module), so all clients of one architecture and seed start from the same one.
    """

    adapter_layer_names = ("colora_A", "colora_B", "colora_beta")
    low_rank_names = ("colora_A", "colora_B")

    def _make_parameters(self) -> None:
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

    def _single(self, x: Tensor, linear: nn.Module | None, name: str) -> Tensor:
        a, b = self.colora_A[name].to(x.dtype), self.colora_B[name].to(x.dtype)
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        scale = self.colora_scaling[name]
        return LoraPass.apply(x, weight, bias, a, b, None, None, None, scale, 0.0)  # type: ignore[no-any-return]

    def _scalar_pair(self, x: Tensor, linear: nn.Module | None) -> Tensor:
        local, received = self.colora_pair
        a, b = self.colora_A[local].to(x.dtype), self.colora_B[local].to(x.dtype)
        a_global, b_global = (
            self.colora_A[received].to(x.dtype),
            self.colora_B[received].to(x.dtype),
        )
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        beta = self.colora_beta[local].to(x.dtype)
        scales = [self.colora_scaling[name] * self.colora_mix_scale for name in (local, received)]
        return LoraPass.apply(x, weight, bias, a, b, a_global, b_global, beta, *scales)  # type: ignore[no-any-return]

    def _plain_delta(self, x: Tensor, name: str) -> Tensor:
        inner = nn.functional.linear(x, self.colora_A[name].to(x.dtype))
        delta: Tensor = (
            nn.functional.linear(inner, self.colora_B[name].to(x.dtype)) * self.colora_scaling[name]
        )
        return delta

    def get_delta_weight(self, adapter: str) -> Tensor:
        """``s B A``."""
        a, b = self.colora_A[adapter].detach(), self.colora_B[adapter].detach()
        dtype = exact_dtype(a.dtype)
        delta: Tensor = self.colora_scaling[adapter] * (b.to(dtype) @ a.to(dtype))
        return delta
