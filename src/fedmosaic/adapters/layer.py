"""What every adapted linear layer does: named adapters, the gate between two of them, and merging.

A layer holds any number of named adapters. When exactly the two of the pair (``local``, ``global``) are active, they
are mixed by the gate that belongs to the local one; any other set of active adapters is added up, and a single one has
no gate. The two kinds of layer, Co-LoRA and ordinary LoRA, are in ``linear.py``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, _get_in_out_features, check_adapters_to_merge
from peft.utils.quantization_utils import resolve_quantization_backend
from torch import Tensor, nn

from fedmosaic.adapters.config import CoLoraConfig
from fedmosaic.adapters.functional import without_autocast
from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.errors import ModelError


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

    if TYPE_CHECKING:  # from the untyped BaseTunerLayer
        active_adapters: list[str]
        merged: bool
        in_features: int
        out_features: int
        get_base_layer: Callable[[], nn.Linear]
        get_base_weight: Callable[[], Tensor]
        set_base_weight: Callable[[Tensor], None]
        set_adapter: Callable[..., None]
        _move_adapter_to_device_of_base_layer: Callable[[str], None]

    adapter_layer_names: tuple[str, ...] = ("colora_beta",)
    other_param_names: tuple[str, ...] = ("colora_r", "colora_scaling", "colora_dropout")
    low_rank_names: tuple[str, ...] = ()

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        config: CoLoraConfig,
        place: AdapterSite,
        quantization: dict[str, Any],
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        linear = self.get_base_layer()
        self.quantization_backend = resolve_quantization_backend(linear, **quantization)
        if not isinstance(linear, nn.Linear) and self.quantization_backend is None:
            raise ModelError(
                f"{place.module} is a {type(linear).__name__}; Co-LoRA adapts linear layers only. Leave it out of "
                "target_modules."
            )
        self.in_features, self.out_features = _get_in_out_features(linear)
        self.colora_site = place
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

    def _is_pair(self, names: list[str]) -> bool:
        return (
            len(names) == 2
            and self.colora_gate != "none"
            and set(names) == set(self.colora_pair)
            and all(self.has(name) for name in names)
        )

    def input_gate(self, x: Tensor) -> Tensor:
        """``g = sigmoid(beta0 + mean over tokens of w . x)``: one gate per sequence.

        Args:
            x: ``[..., T, d_in]``.

        Returns:
            ``[..., 1, 1]``.
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
        return {
            self.colora_pair[0]: (1 - g) * self.colora_mix_scale,
            self.colora_pair[1]: g * self.colora_mix_scale,
        }

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
            []
            if self._disable_adapters or self.merged
            else [name for name in self.active_adapters if self.has(name)]
        )
        if not names:
            base: Tensor = self.base_layer(x, *args, **kwargs)
            return base
        autocast = torch.is_autocast_enabled(x.device.type)
        parameter = getattr(self, self.low_rank_names[0])[names[0]]
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else parameter.dtype
        pair = self._is_pair(names)
        one_pass = len(names) == 1 or (
            pair and self.colora_gate == "scalar" and not self._global_trains()
        )
        if (
            one_pass
            and not (args or kwargs)
            and x.dtype == dtype == parameter.dtype
            and self._can_fuse(names, dtype)
        ):
            linear = self.base_layer
            return self._scalar_pair(x, linear) if pair else self._single(x, linear, names[0])
        result: Tensor = self.base_layer(x, *args, **kwargs)
        if self.quantization_backend is not None:
            result = self.quantization_backend.maybe_clone_base_result(result)
        with without_autocast(x.device.type):
            inner = x.to(dtype)
            if pair and one_pass:
                delta = self._scalar_pair(self.colora_dropout[self.colora_pair[0]](inner), None)
            elif pair:
                delta = self._general_pair(inner)
            else:
                delta = sum(
                    self._single(self.colora_dropout[name](inner), None, name) for name in names
                )  # type: ignore[assignment]
            return result + delta.to(result.dtype)

    def _general_pair(self, x: Tensor) -> Tensor:
        """The pair in ordinary autograd operations: the input gate, or a global adapter that someone made trainable."""
        local, received = self.colora_pair
        g: Tensor = (
            self.input_gate(x)
            if self.colora_gate == "input"
            else torch.sigmoid(self.colora_beta[local])
        )
        g, inner = g.to(x.dtype), self.colora_dropout[local](x)
        mixed: Tensor = (1 - g) * self._plain_delta(inner, local) + g * self._plain_delta(
            inner, received
        )
        return self.colora_mix_scale * mixed

    def _global_trains(self) -> bool:
        return any(
            getattr(self, attr)[self.colora_pair[1]].requires_grad for attr in self.low_rank_names
        )

    def _can_fuse(self, names: list[str], dtype: torch.dtype) -> bool:
        """Whether the base layer is a plain frozen linear layer, without hooks, whose matmul can be done inside the
        pass.
        """
        base = self.base_layer
        if type(base) is not nn.Linear or base.weight.dtype != dtype or base.weight.requires_grad:
            return False
        if base.bias is not None and base.bias.requires_grad:
            return False
        if (
            base._forward_hooks
            or base._forward_pre_hooks
            or base._backward_hooks
            or base._backward_pre_hooks
        ):
            return False
        if "forward" in base.__dict__:  # replaced by accelerate, which moves weights in and out
            return False
        return not (
            self.training
            and any(isinstance(self.colora_dropout[name], nn.Dropout) for name in names)
        )

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
            if safe_merge and not (
                torch.isfinite(weight).all() and (bias is None or torch.isfinite(bias).all())
            ):
                raise ValueError(
                    f"NaNs detected in the merged weights. The adapter {name} seems to be broken"
                )
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
                self.set_base_weight(
                    weight - (factor * self.get_delta_weight(name)).to(weight.dtype)
                )
                self._set_bias(self._changed_bias(name, -factor))
        if self._added_bias:
            self.get_base_layer().register_parameter("bias", None)
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


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which merged weights are computed: at least float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
