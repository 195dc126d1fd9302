"""Find how a linear layer with adapters computes, for functions that take in its pass."""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as PeftLinear
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from fedmosaic.adapters.frozen_products import is_plain_linear
from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.adapters.projections import (
    AddedProjection,
    FrozenPass,
    PassPlan,
    PeftPass,
    Projection,
)


class LinearPasses:
    """Find the pass of a linear module, anew only when its adapters are used in another way."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self._use: tuple[Any, ...] | None = None
        self._plan: PassPlan | None = None
        self._is_whole = True
        self._drop: nn.Module | None = None

    def projection(self) -> Projection | None:
        """Return a projection for one forward pass; None where the module has no pass."""
        use = self._current_use()
        if use != self._use or (self._plan is not None and self._plan.changed()):
            self._plan = self._new_plan()
            self._use = use if self._may_store() else None
        if self._plan is None:
            return None
        if self._is_whole:
            return Projection(self._plan)
        module = self.module
        frozen = getattr(module, "frozen_products", None)
        return AddedProjection(self._plan, module.base_layer, self._drop, frozen)

    def _current_use(self) -> tuple[Any, ...]:
        """Return what decides which adapters are used, and how."""
        module = self.module
        if not isinstance(module, BaseTunerLayer):
            return ()
        scales = getattr(module, "colora_scaling", None) or getattr(module, "scaling", {})
        active, factors = tuple(module.active_adapters), tuple(scales.values())
        return active, module.disable_adapters, module.merged, module.training, factors

    def _new_plan(self) -> PassPlan | None:
        module, self._is_whole, self._drop = self.module, True, None
        if is_plain_linear(module, torch.float32):
            return PassPlan(FrozenPass, (module.weight, module.bias))
        if not is_plain_linear(getattr(module, "base_layer", module), torch.float32):
            return None
        if isinstance(module, AdaptedLinear):
            return self._own_plan(module)
        return self._peft_plan(module) if type(module) is PeftLinear else None

    def _own_plan(self, module: AdaptedLinear) -> PassPlan | None:
        names = module.adapters_in_use()
        gated = module.is_gated_pair(names)
        if not gated and len(names) != 1:
            return None
        own = getattr(module, module.low_rank_names[0])[names[0]]
        path = module.select_path(names, torch.float32)
        if own.dtype != torch.float32 or path == "reference":
            return None
        if path != "fused":
            self._is_whole = False
            self._drop = _active(
                module.colora_dropout[module.colora_pair[0] if gated else names[0]]
            )
        linear = module.base_layer if self._is_whole else None
        return PassPlan(module.pass_kind, module.pass_arguments(names, torch.float32, linear))

    def _peft_plan(self, module: Any) -> PassPlan | None:
        names = [name for name in module.active_adapters if name in module.lora_A]
        if len(names) != 1 or module.disable_adapters or module.merged:
            return None
        (name,) = names
        a, b, dropout = module.lora_A[name], module.lora_B[name], module.lora_dropout[name]
        if name in module.lora_variant or not isinstance(dropout, nn.Dropout | nn.Identity):
            return None
        if not all(
            type(part) is nn.Linear
            and part.bias is None
            and part.weight.dtype == torch.float32
            and not (part._forward_hooks or part._forward_pre_hooks)
            for part in (a, b)
        ):
            return None
        self._is_whole, self._drop = False, _active(dropout)
        return PassPlan(PeftPass, (a.weight, b.weight, module.scaling[name]))

    def _may_store(self) -> bool:
        """Return whether the plan has only tensors of the module, and none computed from them."""
        own = {id(tensor) for tensor in (*self.module.parameters(), *self.module.buffers())}
        return self._plan is None or all(id(tensor) in own for tensor in self._plan.tensors)


def _active(dropout: nn.Module) -> nn.Module | None:
    """Return the dropout if it drops anything now."""
    return dropout if isinstance(dropout, nn.Dropout) and dropout.training and dropout.p else None
