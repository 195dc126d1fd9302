"""Parameter groups, AdamW and its moments as plain tensors that can leave the process and come back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.config import TrainSettings
from fedmosaic.errors import CheckpointError


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning rate.

    Attributes:
        role: ``lora`` (trained A, B), ``shared`` (P, Q) or ``gate`` (β); the role decides the learning rate.
        parameters: by name, in a fixed order.
        personal: no download ever overwrites them in an algorithm that otherwise replaces what it trains, so their moments last
            from round to round.
        objective: the gradients of one objective are clipped together; algorithms that train several side by side name them.
    """

    role: str
    parameters: Mapping[str, nn.Parameter]
    personal: bool = False
    objective: str = ""


def learning_rate(role: str, settings: TrainSettings) -> float:
    """The learning rate of a role: ``lr``, ``lr_shared`` or ``lr_gate`` (which falls back to ``lr``)."""
    if role == "shared":
        return settings.lr_shared
    if role == "gate":
        return settings.lr if settings.lr_gate is None else settings.lr_gate
    return settings.lr


def schedule_factor(settings: TrainSettings, step: int, total: int) -> float:
    """Factor on every learning rate at ``step`` of ``total`` steps of the whole run: 1, or ½(1 + cos(π step/total))."""
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * min(step / max(total, 1), 1.0)))


class Optimiser:
    """AdamW over parameter groups, with moments that can be taken out and put back.

    The moments are kept apart from the weights on purpose: loading them never touches a weight, so what was aggregated is
    what the first step starts from. They lie in three flat vectors, of which each parameter sees its part: taking them out or
    putting others in is one copy a vector, however many parameters there are.

    Args:
        groups: parameters by role; all of one type and on one device.
        settings: learning rates, weight decay and clipping.
    """

    def __init__(self, groups: Iterable[ParameterGroup], settings: TrainSettings) -> None:
        self.settings = settings
        self.groups = [group for group in groups if group.parameters]
        self.parameters = [p for group in self.groups for p in group.parameters.values()]
        self.objectives: dict[str, list[nn.Parameter]] = {}
        for group in self.groups:
            self.objectives.setdefault(group.objective, []).extend(group.parameters.values())
        fused = all(
            p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in self.parameters
        )
        # Parameters whose second moment is one number a tensor are stepped here, all others by torch.
        whole = settings.moment_shared == "tensor"
        self.whole = [
            p for g in self.groups if whole and g.role == "shared" for p in g.parameters.values()
        ]
        arguments: list[dict[str, Any]] = [
            {"params": list(group.parameters.values()), "lr": learning_rate(group.role, settings)}
            for group in self.groups
        ]
        self.adamw = torch.optim.AdamW(arguments, weight_decay=settings.weight_decay, fused=fused)
        first = self.parameters[0]
        sizes = [p.numel() for p in self.parameters]
        self._moments = {
            "exp_avg": first.new_zeros(sum(sizes), requires_grad=False),
            "exp_avg_sq": first.new_zeros(sum(sizes), requires_grad=False),
            # The fused step wants its counter where the weights are, the others in main memory.
            "step": torch.zeros(len(sizes), device=first.device if fused else "cpu"),
        }
        for name, vector in self._moments.items():
            parts = vector.unbind() if name == "step" else vector.split(sizes)
            for parameter, part in zip(self.parameters, parts, strict=True):
                self.adamw.state[parameter][name] = (
                    part if name == "step" else part.view_as(parameter)
                )

    def step(self, factor: float) -> None:
        """One update at ``factor`` times the learning rates, after clipping the gradient norm of each objective.

        Parameters without a gradient stay as they are, and so do their moments.
        """
        if self.settings.clip > 0:
            for parameters in self.objectives.values():
                nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        for group, arguments in zip(self.groups, self.adamw.param_groups, strict=True):
            arguments["lr"] = learning_rate(group.role, self.settings) * factor
        for parameter in self.whole:
            self._step_whole(parameter, self.settings.lr_shared * factor)
            parameter.grad = None  # which torch passes over
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _step_whole(self, parameter: nn.Parameter, rate: float) -> None:
        """Adam with v ← β₂ v + (1 − β₂) mean(g²) over each tensor: its entries keep the proportions of their gradients.

        With a second moment for each entry the rare and the noisy ones are blown up to the size of all others, and what is learned
        depends on which of many equivalent coordinates it is learned in; across models that destroys what they have in common.
        """
        if parameter.grad is None:
            return
        beta1, beta2 = self.adamw.defaults["betas"]
        state = self.adamw.state[parameter]
        state["step"] += 1
        count = float(state["step"])
        state["exp_avg"].lerp_(parameter.grad, 1 - beta1)
        state["exp_avg_sq"].lerp_(parameter.grad.square().mean().expand_as(parameter), 1 - beta2)
        mean = state["exp_avg"] / (1 - beta1**count)
        size = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt() + self.adamw.defaults["eps"]
        parameter.mul_(1 - rate * self.settings.weight_decay).sub_(rate * mean / size)

    def state(self) -> dict[str, Tensor]:
        """Copies of the moments in main memory, in the order of the parameters; zeros before the first step.

        A parameter that has not been trained yet has zeros, which is what AdamW starts from.

        Returns:
            ``exp_avg`` and ``exp_avg_sq`` [all values], of the parameters' type, and ``step`` [parameters], float32.
        """
        return {name: vector.to("cpu", copy=True) for name, vector in self._moments.items()}

    def restart(self) -> None:
        """Forget all moments but those of personal parameters: the others' weights have been overwritten."""
        for group in self.groups:
            if not group.personal:
                for parameter in group.parameters.values():
                    for value in self.adamw.state[parameter].values():
                        value.zero_()

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replace all moments by ``state`` (empty: as if no step had been taken). Weights are not touched.

        Raises:
            CheckpointError: the state belongs to other parameters.
        """
        for name, vector in self._moments.items():
            if not state:
                vector.zero_()
            elif name not in state or state[name].shape != vector.shape:
                raise CheckpointError(f"the optimiser's {name!r} does not fit this adapter")
            else:
                vector.copy_(state[name])
