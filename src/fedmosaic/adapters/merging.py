"""Merge adapters into the weights of a linear layer, and unmerge them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class MergeableLinear(nn.Module, BaseTunerLayer):
    """Merge and unmerge named adapters of a linear layer.

    A subclass defines the changes by an adapter (``get_delta_weight``, ``get_delta_bias``), the
    adapters of the layer (``has``) and their weights in the output (``coefficients``).
    """

    if TYPE_CHECKING:  # from the untyped BaseTunerLayer
        active_adapters: list[str]
        merged: bool
        get_base_layer: Callable[[], nn.Linear]
        get_base_weight: Callable[[], Tensor]
        set_base_weight: Callable[[Tensor], None]
        frozen_products: object | None

    def __init__(self) -> None:
        super().__init__()
        self.merged_adapters: list[str] = []
        self._merged: list[tuple[str, float]] = []
        self._added_bias = False

    def has(self, adapter_name: str) -> bool:
        """Return whether this layer carries the adapter."""
        raise NotImplementedError

    def coefficients(self, names: list[str]) -> dict[str, float]:
        """Return the factor of each of the adapters in the output."""
        raise NotImplementedError

    def get_delta_weight(self, adapter: str) -> Tensor:
        """Return the change of the weight ``[d_out, d_in]`` by one adapter, without the gate."""
        raise NotImplementedError

    def get_delta_bias(self, adapter: str) -> Tensor | None:
        """Return the change of the bias ``[d_out]`` by one adapter; None when it makes none."""
        return None

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add adapters to the base weight and bias; the pair with its present gate.

        Args:
            safe_merge: Check the result for NaN and Inf before touching the base layer.
            adapter_names: Adapters to merge; None: the active ones.

        Raises:
            ModelError: for the pair of an input-dependent gate.
            ValueError: ``safe_merge`` finds values that are not finite.
        """
        names = [name for name in check_adapters_to_merge(self, adapter_names) if self.has(name)]
        factors = self.coefficients(names)
        self.frozen_products = None  # made for the weight before merging
        for name in names:
            weight = self.get_base_weight().clone() if safe_merge else self.get_base_weight()
            weight = weight + self._change(name, factors[name]).to(weight.dtype)
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
        """Take all merged adapters out of the base weight, with the gate of their merging."""
        if not self.merged:
            warnings.warn("Already unmerged. Nothing to do.", stacklevel=2)
            return
        while self._merged:
            name, factor = self._merged.pop()
            self.merged_adapters.remove(name)
            if self.has(name):
                weight = self.get_base_weight()
                self.set_base_weight(weight - self._change(name, factor).to(weight.dtype))
                self._set_bias(self._changed_bias(name, -factor))
        if self._added_bias:
            self.get_base_layer().register_parameter("bias", None)
            self._added_bias = False

    def oriented(self, weight: Tensor) -> Tensor:
        """Turn a ``[d_out, d_in]`` weight as the base layer keeps it, or back; GPT-2 transposes."""
        return weight.t() if isinstance(self.get_base_layer(), Conv1D) else weight

    def _change(self, name: str, factor: float) -> Tensor:
        """Return the change by one adapter, as the base layer keeps its weight."""
        return self.oriented(factor * self.get_delta_weight(name))

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


def merge_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which merged weights are computed: at least float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
