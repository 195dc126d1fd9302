"""Optimise parameter groups by AdamW, with moments that can be saved and restored."""

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
    """Group parameters that share a learning rate.

    Attributes:
        role: ``lora`` (trained A, B), ``shared`` (P, Q) or ``gate`` (β); decides the learning rate.
        parameters: Parameters by name, in a fixed order.
        personal: No download ever overwrites them, in an algorithm that overwrites the others.
            Their moments last from round to round.
        objective: Name of the objective, where an algorithm trains several. The gradients of one
            objective are clipped together.
    """

    role: str
    parameters: Mapping[str, nn.Parameter]
    personal: bool = False
    objective: str = ""


def learning_rate(role: str, settings: TrainSettings) -> float:
    """Return the learning rate of a role: ``lr``, ``lr_shared`` or ``lr_gate`` (else ``lr``)."""
    if role == "shared":
        return settings.lr_shared
    if role == "gate":
        return settings.lr if settings.lr_gate is None else settings.lr_gate
    return settings.lr


def schedule_factor(settings: TrainSettings, step: int, total: int) -> float:
    """Return the factor on every learning rate at ``step`` of ``total`` steps of the run.

    It is 1 for the constant schedule, or ½(1 + cos(π step/total)) for the cosine schedule.
    """
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * min(step / max(total, 1), 1.0)))


FUSED = ("cpu", "cuda")
"""Types of device whose AdamW steps are one kernel."""


class Optimiser:
    """Run AdamW over parameter groups, with moments that can be saved and restored.

    The moments are stored apart from the weights, and loading them never touches a weight: the
    first step starts from the aggregated weights. They are three flat vectors, and each parameter
    has a view of its part. Saving or loading is one copy for each vector.

    Args:
        groups: Parameters by role; all of one dtype and on one device.
        settings: Learning rates, weight decay and clipping.

    Attributes:
        parameters: All parameters, group by group.
        moments: The flat vectors ``exp_avg``, ``exp_avg_sq`` and ``step``.
    """

    def __init__(self, groups: Iterable[ParameterGroup], settings: TrainSettings) -> None:
        self.settings = settings
        self.groups = [group for group in groups if group.parameters]
        self.parameters = [p for group in self.groups for p in group.parameters.values()]
        self.objectives: dict[str, list[nn.Parameter]] = {}
        for group in self.groups:
            self.objectives.setdefault(group.objective, []).extend(group.parameters.values())
        fused = all(p.device.type in FUSED and p.is_floating_point() for p in self.parameters)
        # Parameters with one second moment for the whole tensor are stepped here, others by torch.
        by_tensor = settings.moment_shared == "tensor"
        self.by_tensor = [
            p
            for group in self.groups
            if by_tensor and group.role == "shared"
            for p in group.parameters.values()
        ]
        # Their steps are counted here too: reading the counter would wait for the device.
        self._steps = dict.fromkeys(self.by_tensor, 0)
        arguments: list[dict[str, Any]] = [
            {"params": list(group.parameters.values()), "lr": learning_rate(group.role, settings)}
            for group in self.groups
        ]
        self.adamw = torch.optim.AdamW(arguments, weight_decay=settings.weight_decay, fused=fused)
        first = self.parameters[0]
        sizes = [p.numel() for p in self.parameters]
        self.moments = {
            "exp_avg": first.new_zeros(sum(sizes), requires_grad=False),
            "exp_avg_sq": first.new_zeros(sum(sizes), requires_grad=False),
            # The fused step needs its counter on the weights' device, the others in main memory.
            "step": torch.zeros(len(sizes), device=first.device if fused else "cpu"),
        }
        for name, vector in self.moments.items():
            parts = vector.unbind() if name == "step" else vector.split(sizes)
            for parameter, part in zip(self.parameters, parts, strict=True):
                self.adamw.state[parameter][name] = (
                    part if name == "step" else part.view_as(parameter)
                )

    def step(self, factor: float) -> None:
        """Update at ``factor`` times the learning rates, after clipping the gradients.

        The gradient norm of each objective is clipped. Parameters without a gradient and their
        moments do not change.
        """
        if self.settings.clip > 0:
            for parameters in self.objectives.values():
                nn.utils.clip_grad_norm_(parameters, self.settings.clip)
        for group, arguments in zip(self.groups, self.adamw.param_groups, strict=True):
            arguments["lr"] = learning_rate(group.role, self.settings) * factor
        for parameter in self.by_tensor:
            self._step_by_tensor(parameter, self.settings.lr_shared * factor)
            parameter.grad = None  # torch skips it
        self.adamw.step()
        self.adamw.zero_grad(set_to_none=True)

    @torch.no_grad()
    def _step_by_tensor(self, parameter: nn.Parameter, rate: float) -> None:
        """Take an Adam step with one second moment, v ← β₂ v + (1 − β₂) mean(g²), for the tensor.

        The entries of the update then have the proportions of their gradients. With a second moment
        for each entry, rare and noisy entries are scaled up to the size of all others, and the
        result depends on the choice among many equivalent coordinates. Across models this destroys
        their common directions.
        """
        if parameter.grad is None:
            return
        beta1, beta2 = self.adamw.defaults["betas"]
        state = self.adamw.state[parameter]
        state["step"] += 1
        self._steps[parameter] += 1
        count = float(self._steps[parameter])
        state["exp_avg"].lerp_(parameter.grad, 1 - beta1)
        state["exp_avg_sq"].lerp_(parameter.grad.square().mean().expand_as(parameter), 1 - beta2)
        mean = state["exp_avg"] / (1 - beta1**count)
        size = (state["exp_avg_sq"] / (1 - beta2**count)).sqrt() + self.adamw.defaults["eps"]
        parameter.mul_(1 - rate * self.settings.weight_decay).sub_(rate * mean / size)

    def state(self) -> dict[str, Tensor]:
        """Return copies of the moments in main memory, in the order of the parameters.

        They are zero before the first step, as in AdamW.

        Returns:
            ``exp_avg`` and ``exp_avg_sq`` [all values] in the parameters' dtype, and ``step``
            [parameters] in float32.
        """
        return {name: vector.to("cpu", copy=True) for name, vector in self.moments.items()}

    def restart(self) -> None:
        """Set the moments of all parameters to zero, except those of personal ones.

        The weights of the others have been overwritten by a download.
        """
        for group in self.groups:
            if not group.personal:
                for parameter in group.parameters.values():
                    for value in self.adamw.state[parameter].values():
                        value.zero_()
                    if parameter in self._steps:
                        self._steps[parameter] = 0

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Replace all moments by ``state``, or by zeros if it is empty; weights do not change.

        Raises:
            CheckpointError: the state belongs to other parameters.
        """
        for name, vector in self.moments.items():
            if not state:
                vector.zero_()
            elif name not in state or state[name].shape != vector.shape:
                raise CheckpointError(
                    f"the optimiser's {name!r} has another shape than this adapter needs; the "
                    "checkpoint belongs to another adapter"
                )
            else:
                vector.copy_(state[name])
        counts = state["step"].tolist() if state else [0] * len(self.parameters)
        for parameter, count in zip(self.parameters, counts, strict=True):
            if parameter in self._steps:
                self._steps[parameter] = int(count)
