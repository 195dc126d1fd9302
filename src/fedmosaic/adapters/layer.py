"""The adapted linear layers: what all of them do (adapters, gate, merging), and the two kinds: Co-LoRA and ordinary
LoRA.

A layer holds any number of named adapters. When exactly the two of the pair (``local``, ``global``) are active, they
are mixed by the gate that belongs to the local one; any other set of active adapters is added up, and a single one has
no gate.
"""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple, cast

import torch
from peft.tuners._buffer_dict import BufferDict
from peft.tuners.tuners_utils import BaseTunerLayer, _get_in_out_features, check_adapters_to_merge
from peft.utils.quantization_utils import resolve_quantization_backend
from torch import Tensor, nn

from fedmosaic.adapters.config import CoLoraConfig
from fedmosaic.adapters.functional import CoLoraPass, LoraPass, without_autocast
from fedmosaic.adapters.subspace import random_pair, svd_pair
from fedmosaic.errors import ModelError
from fedmosaic.seeding import generator


class Place(NamedTuple):
    """Where a layer sits: 0-based layer, leaf name such as ``q_proj``, and the block it closes (None: not a block
    end).
    """

    layer: int
    module: str
    block: int | None


class AdaptedLinear(nn.Module, BaseTunerLayer):
    """What Co-LoRA and ordinary LoRA layers share. Subclasses own the low-rank parameters and the passes.

    Args:
        base_layer: The frozen linear layer, or a quantised one that PEFT knows.
        adapter_name: Name of the first adapter.
        config: Its config.
        place: Where the layer sits.
        quantization: What PEFT needs to re-quantise merged weights of some formats.

    Raises:
        ModelError: when the base layer is not linear.
    """

    adapter_layer_names: tuple[str, ...] = ("colora_beta",)
    other_param_names: tuple[str, ...] = ("colora_r", "colora_scaling", "colora_dropout")
    low_rank_names: tuple[str, ...] = ()

    def __init__(
        self, base_layer: nn.Module, adapter_name: str, config: CoLoraConfig, place: Place, quantization: dict[str, Any]
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        linear = self.get_base_layer()
        self.quantization_backend = resolve_quantization_backend(linear, **quantization)
        if not isinstance(linear, nn.Linear) and self.quantization_backend is None:
            raise ModelError(
                f"{place.module} is a {type(linear).__name__}; Co-LoRA adapts linear layers only. Leave it out of target_modules."
            )
        self.in_features, self.out_features = _get_in_out_features(linear)
        self.colora_place = place
        self.colora_r: dict[str, int] = {}
        self.colora_scaling: dict[str, float] = {}
        self.colora_dropout = nn.ModuleDict()
        self.colora_beta = nn.ParameterDict()
        self.colora_pair = (config.local_name, config.global_name)
        self.colora_gate = config.gate
        self.colora_gate_init = config.gate_init
        self.colora_gate_noise = config.gate_noise
        self.colora_mix_scale = config.mix_scale
        # Set on the instance: PEFT's default is shared by all layers of all methods.
        self.frozen_peft_weight_names = {config.global_name: (*self.low_rank_names, "colora_beta")}
        self._disable_adapters = False
        self.merged_adapters: list[str] = []
        self._merged: list[tuple[str, float]] = []
        self._added_bias = False
        self._active_adapter = adapter_name
        self._make_parameters()
        self.update_layer(adapter_name, config)

    # Parameters

    def _make_parameters(self) -> None:
        """Create the empty dictionaries of the low-rank parameters."""
        raise NotImplementedError

    def _add_parameters(self, adapter_name: str, config: CoLoraConfig) -> None:
        """Create the low-rank parameters of one adapter."""
        raise NotImplementedError

    def update_layer(self, adapter_name: str, config: CoLoraConfig) -> None:
        """Add an adapter, or replace the one of that name."""
        self.colora_r[adapter_name] = config.r
        self.colora_scaling[adapter_name] = config.scaling
        self.colora_dropout[adapter_name] = (
            nn.Dropout(config.lora_dropout) if config.lora_dropout > 0 else nn.Identity()
        )
        self._add_parameters(adapter_name, config)
        if adapter_name == self.colora_pair[0] and self.colora_gate != "none":
            # The scalar gate is beta; the input gate is w, with beta as its constant part.
            size = 1 if self.colora_gate == "scalar" else 1 + self.in_features
            beta = torch.zeros(size)
            beta[0] = config.gate_init
            self.colora_beta[adapter_name] = nn.Parameter(beta)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def delete_adapter(self, adapter_name: str) -> None:
        """Remove an adapter; that the name of the global one stays frozen must outlive its deletion."""
        frozen = dict(self.frozen_peft_weight_names)
        super().delete_adapter(adapter_name)
        self.frozen_peft_weight_names = frozen

    def has(self, adapter_name: str) -> bool:
        """Whether this layer carries the adapter."""
        return adapter_name in self.colora_scaling

    # Gate

    def _is_pair(self, names: list[str]) -> bool:
        return (
            len(names) == 2
            and self.colora_gate != "none"
            and set(names) == set(self.colora_pair)
            and all(self.has(name) for name in names)
        )

    def input_gate(self, x: Tensor) -> Tensor:
        """``g = sigmoid(beta0 + mean over tokens of w . x)``, ``[..., 1, 1]``: one gate per sequence. x is ``[..., T,
        d_in]``.
        """
        beta = self.colora_beta[self.colora_pair[0]]
        value = beta[0] + torch.matmul(x.to(beta.dtype).mean(-2, keepdim=True), beta[1:, None])
        if self.training and self.colora_gate_noise > 0:
            value = value + self.colora_gate_noise * torch.randn_like(value)
        return torch.sigmoid(value)

    def coefficients(self, names: list[str]) -> dict[str, float]:
        """What each of the adapters is multiplied by in the output, beyond its own scale s.

        Raises:
            ModelError: for the pair of an input-dependent gate, which has no fixed coefficients.
        """
        names = [name for name in names if self.has(name)]
        if not self._is_pair(names):
            return dict.fromkeys(names, 1.0)
        if self.colora_gate == "input":
            raise ModelError(
                "The gate depends on the input (gate='input'), so local and global cannot become one fixed adapter: "
                "merge or export one of them, or train with gate='scalar'."
            )
        g = float(torch.sigmoid(self.colora_beta[self.colora_pair[0]].detach().double()))
        return {self.colora_pair[0]: (1 - g) * self.colora_mix_scale, self.colora_pair[1]: g * self.colora_mix_scale}

    # Forward

    def _single(self, x: Tensor, linear: nn.Module | None, name: str) -> Tensor:
        """Output (with ``linear``) or change of output (without) for one adapter."""
        raise NotImplementedError

    def _scalar_pair(self, x: Tensor, linear: nn.Module | None) -> Tensor:
        """The same for the pair under the scalar gate, in one pass."""
        raise NotImplementedError

    def _plain_delta(self, x: Tensor, name: str) -> Tensor:
        """The change of output of one adapter in ordinary autograd operations."""
        raise NotImplementedError

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """``[..., d_in]`` to ``[..., d_out]``, in the base layer's dtype."""
        if self._disable_adapters and self.merged:
            self.unmerge()
        names = (
            [] if self._disable_adapters or self.merged else [name for name in self.active_adapters if self.has(name)]
        )
        if not names:
            return self.base_layer(x, *args, **kwargs)
        autocast = torch.is_autocast_enabled(x.device.type)
        parameter = getattr(self, self.low_rank_names[0])[names[0]]
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else parameter.dtype
        pair = self._is_pair(names)
        one_pass = len(names) == 1 or (pair and self.colora_gate == "scalar" and not self._global_trains())
        if one_pass and not (args or kwargs) and x.dtype == dtype == parameter.dtype and self._can_fuse(names, dtype):
            linear = self.base_layer
            return self._scalar_pair(x, linear) if pair else self._single(x, linear, names[0])
        result = self.base_layer(x, *args, **kwargs)
        if self.quantization_backend is not None:
            result = self.quantization_backend.maybe_clone_base_result(result)
        with without_autocast(x.device.type):
            inner = x.to(dtype)
            if pair and one_pass:
                delta = self._scalar_pair(self.colora_dropout[self.colora_pair[0]](inner), None)
            elif pair:
                delta = self._general_pair(inner)
            else:
                delta = sum(self._single(self.colora_dropout[name](inner), None, name) for name in names)  # type: ignore[assignment]
            return result + delta.to(result.dtype)

    def _general_pair(self, x: Tensor) -> Tensor:
        """The pair in ordinary autograd operations: the input gate, or a global adapter that someone made trainable."""
        local, received = self.colora_pair
        g = (
            self.input_gate(x).to(x.dtype)
            if self.colora_gate == "input"
            else torch.sigmoid(self.colora_beta[local]).to(x.dtype)
        )
        inner = self.colora_dropout[local](x)
        mixed = (1 - g) * self._plain_delta(inner, local) + g * self._plain_delta(inner, received)
        return mixed * self.colora_mix_scale

    def _global_trains(self) -> bool:
        return any(getattr(self, attr)[self.colora_pair[1]].requires_grad for attr in self.low_rank_names)

    def _can_fuse(self, names: list[str], dtype: torch.dtype) -> bool:
        """Whether the base layer is a plain frozen linear layer, without hooks, whose matmul can be done inside the
        pass.
        """
        base = self.base_layer
        if type(base) is not nn.Linear or base.weight.dtype != dtype or base.weight.requires_grad:
            return False
        if base.bias is not None and base.bias.requires_grad:
            return False
        if base._forward_hooks or base._forward_pre_hooks or base._backward_hooks or base._backward_pre_hooks:
            return False
        if "forward" in base.__dict__:  # replaced by accelerate, which moves weights in and out
            return False
        return not (self.training and any(isinstance(self.colora_dropout[name], nn.Dropout) for name in names))

    # Merging

    def get_delta_weight(self, adapter: str) -> Tensor:
        """The change of the weight ``[d_out, d_in]`` that one adapter makes, without the gate."""
        raise NotImplementedError

    def get_delta_bias(self, adapter: str) -> Tensor | None:
        """The change of the bias ``[d_out]`` that one adapter makes, without the gate; None when it makes none."""
        return None

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the adapters into the base weight (and bias); the pair with its present gate.

        Args:
            safe_merge: Check the result for NaN and Inf before touching the base layer.
            adapter_names: Which adapters; None: the active ones.

        Raises:
            ModelError: for the pair of an input-dependent gate.
            ValueError: when ``safe_merge`` finds values that are not finite.
        """
        names = [name for name in check_adapters_to_merge(self, adapter_names) if self.has(name)]
        factors = self.coefficients(names)
        for name in names:
            weight = self.get_base_weight().clone() if safe_merge else self.get_base_weight()
            weight = weight + (factors[name] * self.get_delta_weight(name)).to(weight.dtype)
            bias = self._changed_bias(name, factors[name])
            if safe_merge and not (torch.isfinite(weight).all() and (bias is None or torch.isfinite(bias).all())):
                raise ValueError(f"NaNs detected in the merged weights. The adapter {name} seems to be broken")
            self.set_base_weight(weight)
            self._set_bias(bias)
            self.merged_adapters.append(name)
            self._merged.append((name, factors[name]))

    def unmerge(self) -> None:
        """Take all merged adapters out of the base weight again, with the gate they were merged with."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        while self._merged:
            name, factor = self._merged.pop()
            self.merged_adapters.remove(name)
            if self.has(name):
                weight = self.get_base_weight()
                self.set_base_weight(weight - (factor * self.get_delta_weight(name)).to(weight.dtype))
                self._set_bias(self._changed_bias(name, -factor))
        if self._added_bias:
            self.get_base_layer().bias = None
            self._added_bias = False

    def _changed_bias(self, name: str, factor: float) -> Tensor | None:
        delta, bias = self.get_delta_bias(name), self.get_base_layer().bias
        if delta is None or (bias is None and not delta.any()):
            return None
        change = factor * delta
        return change if bias is None else bias.data + change.to(bias.dtype)

    def _set_bias(self, value: Tensor | None) -> None:
        if value is None:
            return
        linear = self.get_base_layer()
        if linear.bias is None:
            dtype = self.get_base_weight().dtype
            linear.bias = nn.Parameter(value.to(dtype), requires_grad=False)
            self._added_bias = True
        else:
            linear.bias.data = value

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """PEFT's converter keeps no bias; use ``fedmosaic.adapters.export_to_folder``."""
        return False

    def __repr__(self) -> str:
        return "colora." + super().__repr__()


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
        r = config.r
        if len(self.colora_P) == 0 or set(self.colora_P) == {adapter_name}:
            self._make_shared(config)
        elif self.colora_shared["frozen_A"].shape[0] != r:
            raise ModelError(
                f"Adapter {adapter_name!r} has r = {r}, but the frozen A and B of the layer, which all its adapters share, have "
                f"r = {self.colora_shared['frozen_A'].shape[0]}: give all adapters of a model the same r."
            )
        self.colora_P[adapter_name] = nn.Parameter(torch.zeros(r, r) if config.init_weights else torch.randn(r, r))
        self.colora_Q[adapter_name] = nn.Parameter(torch.zeros(r) if config.init_weights else torch.randn(r))

    def _make_shared(self, config: CoLoraConfig) -> None:
        weight = self.get_base_layer().weight
        if config.shared_init == "svd":
            a, b = svd_pair(self.get_base_weight(), config.r)
        else:
            place = self.colora_place
            a, b = random_pair(self.in_features, self.out_features, config.r, config.seed, place.layer, place.module)
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        device = weight.device if weight.device.type != "meta" else torch.device("cpu")
        self.colora_shared["frozen_A"] = a.to(device, dtype)
        self.colora_shared["frozen_B"] = b.to(device, dtype)
        self.colora_shared_scale = config.shared_scale
        self.colora_kappa = config.kappa

    def _shared(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        return self.colora_shared["frozen_A"].to(dtype), self.colora_shared["frozen_B"].to(dtype)

    def _single(self, x: Tensor, linear: nn.Module | None, name: str) -> Tensor:
        p, q = self.colora_P[name].to(x.dtype), self.colora_Q[name].to(x.dtype)
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        scale = self.colora_scaling[name]
        return CoLoraPass.apply(x, weight, bias, *self._shared(x.dtype), p, q, None, None, None, scale)  # type: ignore[no-any-return]

    def _scalar_pair(self, x: Tensor, linear: nn.Module | None) -> Tensor:
        local, received = self.colora_pair
        p, q = self.colora_P[local].to(x.dtype), self.colora_Q[local].to(x.dtype)
        p_global, q_global = self.colora_P[received].to(x.dtype), self.colora_Q[received].to(x.dtype)
        scale, ratio = self.colora_scaling[local], self.colora_scaling[received] / self.colora_scaling[local]
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
            nn.functional.linear(x, a), self.colora_P[name].to(x.dtype), self.colora_Q[name].to(x.dtype)
        )
        return nn.functional.linear(u, b) * self.colora_scaling[name]

    def get_delta_weight(self, adapter: str) -> Tensor:
        """``s B P A``."""
        p = self.colora_P[adapter].detach()
        a, b = self._shared(_exact(p.dtype))
        return self.colora_scaling[adapter] * (b @ p.to(a.dtype) @ a)

    def get_delta_bias(self, adapter: str) -> Tensor | None:
        """``s B Q``."""
        q = self.colora_Q[adapter].detach()
        _, b = self._shared(_exact(q.dtype))
        return self.colora_scaling[adapter] * (b @ q.to(b.dtype))


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
        draw = generator(config.seed, "lora", self.colora_place.layer, self.colora_place.module)
        bound = self.in_features**-0.5
        a = torch.empty(config.r, self.in_features).uniform_(-bound, bound, generator=draw)
        b = torch.zeros(self.out_features, config.r)
        self.colora_A[adapter_name] = nn.Parameter(a)
        self.colora_B[adapter_name] = nn.Parameter(b if config.init_weights else torch.randn_like(b))

    def _single(self, x: Tensor, linear: nn.Module | None, name: str) -> Tensor:
        a, b = self.colora_A[name].to(x.dtype), self.colora_B[name].to(x.dtype)
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        scale = self.colora_scaling[name]
        return LoraPass.apply(x, weight, bias, a, b, None, None, None, scale, 0.0)  # type: ignore[no-any-return]

    def _scalar_pair(self, x: Tensor, linear: nn.Module | None) -> Tensor:
        local, received = self.colora_pair
        a, b = self.colora_A[local].to(x.dtype), self.colora_B[local].to(x.dtype)
        a_global, b_global = self.colora_A[received].to(x.dtype), self.colora_B[received].to(x.dtype)
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        beta = self.colora_beta[local].to(x.dtype)
        scales = [self.colora_scaling[name] * self.colora_mix_scale for name in (local, received)]
        return LoraPass.apply(x, weight, bias, a, b, a_global, b_global, beta, *scales)  # type: ignore[no-any-return]

    def _plain_delta(self, x: Tensor, name: str) -> Tensor:
        inner = nn.functional.linear(x, self.colora_A[name].to(x.dtype))
        return nn.functional.linear(inner, self.colora_B[name].to(x.dtype)) * self.colora_scaling[name]

    def get_delta_weight(self, adapter: str) -> Tensor:
        """``s B A``."""
        a, b = self.colora_A[adapter].detach(), self.colora_B[adapter].detach()
        dtype = _exact(a.dtype)
        return self.colora_scaling[adapter] * (b.to(dtype) @ a.to(dtype))


def _exact(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which merged weights are computed: at least float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
