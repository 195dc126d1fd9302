"""Put named low-rank adapters on a linear layer, with a gate between the two of FedMosaic's pair.

A layer holds any number of named adapters. When exactly the two adapters of the pair (``local`` and
``global``) are active, they are mixed by the gate of the local one::

    h = W x + (1 - g) delta_local(x) + g delta_global(x)

Any other set of active adapters is added up without a gate. ``linear.py`` has the two kinds of
layer, Co-LoRA and ordinary LoRA.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from peft.tuners.tuners_utils import _get_in_out_features
from peft.utils.quantization_utils import resolve_quantization_backend
from torch import Tensor, nn
from torch.autograd import Function
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters.config import CoLoraConfig
from fedmosaic.adapters.frozen_products import FrozenProducts, is_plain_linear
from fedmosaic.adapters.functional import without_autocast
from fedmosaic.adapters.merging import MergeableLinear
from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.errors import ModelError

ForwardPath = Literal["reference", "closed form", "fused"]
"""Way in which a layer computes its output; see :meth:`AdaptedLinear.forward`."""


class AdaptedLinear(MergeableLinear):
    """Provide the common part of Co-LoRA and LoRA layers; they add the low-rank parameters.

    Args:
        base_layer: The frozen linear layer, or a quantised one that PEFT knows.
        adapter_name: Name of the first adapter.
        config: Its config.
        site: Where the layer sits in the model.
        quantization: PEFT's arguments for re-quantising merged weights of some formats.

    Raises:
        ModelError: the base layer is not linear.
    """

    if TYPE_CHECKING:  # from the untyped BaseTunerLayer
        in_features: int
        out_features: int
        set_adapter: Callable[..., None]
        _move_adapter_to_device_of_base_layer: Callable[[str], None]

    adapter_layer_names: tuple[str, ...] = ("colora_beta",)
    other_param_names: tuple[str, ...] = ("colora_r", "colora_scaling", "colora_dropout")
    low_rank_names: tuple[str, ...] = ()
    pass_kind: type[Function]
    """Autograd function that computes the change of one adapter or of the pair."""

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        config: CoLoraConfig,
        site: AdapterSite,
        quantization: dict[str, Any],
    ) -> None:
        super().__init__()
        self.base_layer = base_layer
        linear = self.get_base_layer()
        # Of a plain layer PEFT says None, and imports bitsandbytes, which takes seconds, to say so.
        plain = type(linear) in (nn.Linear, Conv1D) and type(linear.weight) is nn.Parameter
        self.quantization_backend = (
            None if plain else resolve_quantization_backend(linear, **quantization)
        )
        if not isinstance(linear, (nn.Linear, Conv1D)) and self.quantization_backend is None:
            raise ModelError(
                f"{site.module} is a {type(linear).__name__}; Co-LoRA adapts linear layers only. "
                "Leave it out of target_modules."
            )
        self.in_features, self.out_features = _get_in_out_features(linear)
        self.colora_site = site
        self.colora_r: dict[str, int] = {}
        self.colora_scaling: dict[str, float] = {}
        self.colora_dropout = nn.ModuleDict()
        self.colora_beta = nn.ParameterDict()
        self.colora_pair = (config.local_name, config.global_name)
        self.colora_gate = config.gate
        self.colora_gate_init = config.gate_init
        self.frozen_products: FrozenProducts | None = None
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self._make_parameters(config)
        # Set on the instance: PEFT's default is shared by all layers of all methods.
        self.frozen_peft_weight_names = {config.global_name: (*self.low_rank_names, "colora_beta")}
        self.update_layer(adapter_name, config)

    @property
    def mixes_tokens(self) -> bool:
        """Return whether the output at a token depends on other tokens of its sequence."""
        return self.colora_gate == "input"

    def _make_parameters(self, config: CoLoraConfig) -> None:
        """Create the empty dictionaries of the low-rank parameters."""
        raise NotImplementedError

    def _add_parameters(self, adapter_name: str, config: CoLoraConfig) -> None:
        """Create the low-rank parameters of one adapter."""
        raise NotImplementedError

    def delta(self, x: Tensor, name: str) -> Tensor:
        """Compute the change of output by one adapter in plain operations (the reference)."""
        raise NotImplementedError

    def weighted_delta(self, factors: Mapping[str, float]) -> Tensor:
        """Return the sum of the adapters' changes of the weight, each times its factor."""
        raise NotImplementedError

    def operands(self, names: list[str], dtype: torch.dtype) -> tuple[Any, ...]:
        """Return what ``pass_kind`` takes of one adapter or the scalar-gated pair, in a dtype."""
        raise NotImplementedError

    def one_pass(self, x: Tensor, names: list[str], linear: nn.Module | None = None) -> Tensor:
        """Compute the change by one adapter or the scalar-gated pair as one autograd function.

        Args:
            x: ``[..., d_in]``.
            names: One adapter, or the pair in any order.
            linear: The frozen layer, to return its output with the change added; None: the change.
        """
        arguments = self.pass_arguments(names, x.dtype, linear)
        return self.pass_kind.apply(x, *arguments)  # type: ignore[no-any-return]

    def pass_arguments(
        self, names: list[str], dtype: torch.dtype, linear: nn.Module | None
    ) -> tuple[Any, ...]:
        """Return what :meth:`one_pass` gives ``pass_kind`` after x."""
        weight, bias = (None, None) if linear is None else (linear.weight, linear.bias)
        frozen = None if linear is None else self.frozen_products
        return weight, bias, *self.operands(names, dtype), frozen

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Map ``[..., d_in]`` to ``[..., d_out]`` in the dtype of the base layer.

        Three paths give the same output up to rounding. ``reference`` is the formula in plain
        operations, for an input-dependent gate or a global adapter that was made trainable.
        ``closed form`` computes the change of each adapter, or of the scalar-gated pair, with
        closed-form gradients. ``fused`` also multiplies with the frozen weight inside that pass.
        """
        names = self.adapters_in_use()
        if not names:
            unchanged: Tensor = self.base_layer(x, *args, **kwargs)
            return unchanged
        autocast = torch.is_autocast_enabled(x.device.type)
        own = getattr(self, self.low_rank_names[0])[names[0]].dtype
        dtype = torch.get_autocast_dtype(x.device.type) if autocast else own
        fusable = x.dtype == dtype == own and not (args or kwargs)
        path = self.select_path(names, dtype if fusable else None)

        if path == "fused":
            return self.one_pass(x, names, self.base_layer)
        gated = self.is_gated_pair(names)
        result: Tensor = self.base_layer(x, *args, **kwargs)
        if self.quantization_backend is not None:
            result = self.quantization_backend.maybe_clone_base_result(result)
        with without_autocast(x.device.type):
            inner, local = x.to(dtype), self.colora_pair[0]
            if path == "reference":
                g, dropped = self.gate(inner), self.colora_dropout[local](inner)
                received = self.colora_pair[1]
                change = (1 - g) * self.delta(dropped, local) + g * self.delta(dropped, received)
            elif gated:
                change = self.one_pass(self.colora_dropout[local](inner), names)
            else:
                parts = (self.one_pass(self.colora_dropout[n](inner), [n]) for n in names)
                change = sum(parts)  # type: ignore[assignment]
            return result + change.to(result.dtype)

    def select_path(self, names: list[str], dtype: torch.dtype | None) -> ForwardPath:
        """Choose how ``forward`` computes the output with these adapters.

        Args:
            names: The adapters in use.
            dtype: The one dtype of input, adapters and computation; None where they differ or the
                base layer takes further arguments, which rules out ``fused``.
        """
        gated = self.is_gated_pair(names)
        if gated and (self.colora_gate == "input" or self._global_trains()):
            return "reference"
        if (gated or len(names) == 1) and dtype is not None and self._can_fuse(names, dtype):
            return "fused"
        return "closed form"

    def adapters_in_use(self) -> list[str]:
        """Return the active adapters of this layer; none while they are disabled or merged."""
        if self._disable_adapters and self.merged:
            self.unmerge()
        if self._disable_adapters or self.merged:
            return []
        return [name for name in self.active_adapters if self.has(name)]

    def _can_fuse(self, names: list[str], dtype: torch.dtype) -> bool:
        """Return whether the base layer is plain, and no input feature is dropped."""
        if self.training:
            dropout = self.colora_dropout
            for name in names:
                if isinstance(dropout[name], nn.Dropout):
                    return False
        return is_plain_linear(self.base_layer, dtype)

    def _global_trains(self) -> bool:
        """Return whether someone made the global adapter trainable; no pass has its gradients."""
        received = self.colora_pair[1]
        for attribute in self.low_rank_names:
            if getattr(self, attribute)[received].requires_grad:
                return True
        return False

    def is_gated_pair(self, names: list[str]) -> bool:
        """Return whether these are exactly the local and the global adapter, with a gate."""
        local, received = self.colora_pair
        return (
            len(names) == 2
            and self.colora_gate != "none"
            and local in names
            and received in names
            and self.has(local)
            and self.has(received)
        )

    def gate(self, x: Tensor) -> Tensor:
        """Return g in the dtype of ``x``: ``[1]``, or one per sequence for the input gate.

        The scalar gate is ``g = sigmoid(beta)``. The input gate is ``g = sigmoid(beta0 + mean over
        tokens of w . x)``, ``[..., 1, 1]`` for x ``[..., T, d_in]``.
        """
        beta = self.colora_beta[self.colora_pair[0]]
        if self.colora_gate == "input":
            mean = x.to(beta.dtype).mean(-2, keepdim=True)
            beta = beta[0] + torch.matmul(mean, beta[1:, None])
        return torch.sigmoid(beta).to(x.dtype)

    def coefficients(self, names: list[str]) -> dict[str, float]:
        """Return the factor of each of the adapters in the output, besides its own scale s.

        Raises:
            ModelError: for the pair of an input-dependent gate, which has no fixed coefficients.
        """
        names = [name for name in names if self.has(name)]
        if not self.is_gated_pair(names):
            return dict.fromkeys(names, 1.0)
        if self.colora_gate == "input":
            raise ModelError(
                "The gate depends on the input (gate='input'), so local and global cannot become "
                "one fixed adapter: merge or export one of them, or train with gate='scalar'."
            )
        g = float(torch.sigmoid(self.colora_beta[self.colora_pair[0]].detach().double()))
        return {self.colora_pair[0]: 1 - g, self.colora_pair[1]: g}

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
        """Remove an adapter; a later adapter of the global one's name is frozen as well."""
        frozen = dict(self.frozen_peft_weight_names)
        super().delete_adapter(adapter_name)
        self.frozen_peft_weight_names = frozen

    def has(self, adapter_name: str) -> bool:
        """Return whether this layer carries the adapter."""
        return adapter_name in self.colora_scaling

    def supports_lora_conversion(self, adapter_name: str = "default") -> bool:
        """Return False: PEFT's converter drops biases; ``export_to_folder`` keeps them."""
        return False

    def __repr__(self) -> str:
        return "colora." + super().__repr__()
