"""Step the optimisers of several clients at once, on gradients that are stacked by client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.training.optimiser import FUSED, Optimiser, learning_rate

PART = 4096
"""Values whose squares are summed at a time."""


def row_norms(rows: Tensor) -> Tensor:
    """Return the norm of each row, [k, 1], in parts: torch sums squares without compensation.

    The norm of two million float32 values at a time is off by 5e-5, that of parts by 1e-7.
    """
    whole = rows.shape[1] // PART
    parts = rows[:, : whole * PART].unflatten(1, (whole, PART))
    norms = torch.linalg.vector_norm(parts, dim=2)
    rest = torch.linalg.vector_norm(rows[:, whole * PART :], dim=1, keepdim=True)
    found: Tensor = torch.linalg.vector_norm(torch.cat([norms, rest], dim=1), dim=1, keepdim=True)
    return found


class JointOptimiser:
    """Take the steps of one optimiser for each of k clients.

    Each client's optimiser holds its moments, so that they are saved and restored as always. Where
    all parameters of a group have a gradient and made equally many steps, the group is one vector,
    and its step one call; else each optimiser steps by itself. Both give the same numbers up to
    rounding.

    Args:
        optimisers: of the clients, over their slices of the stacked parameters.
        stacked: the stacked parameters ``[k, ...]`` in the order of an optimiser's parameters, each
            a view of ``weights``.
        weights: float ``[k, all values]``.

    Attributes:
        settings: learning rates, weight decay and clipping of all clients.
    """

    def __init__(
        self, optimisers: Sequence[Optimiser], stacked: Sequence[nn.Parameter], weights: Tensor
    ) -> None:
        self.optimisers = optimisers
        self.stacked = stacked
        self.weights = weights
        own = optimisers[0]
        self.settings = own.settings
        self._sizes = [sum(p.numel() for p in g.parameters.values()) for g in own.groups]
        self._counts = [len(group.parameters) for group in own.groups]
        self._is_simple = (
            weights.device.type in FUSED and len(own.objectives) == 1 and not own.by_tensor
        )
        self._is_flat = False

    def prepare(self) -> None:
        """Choose how to step; called after moments are loaded, before the first step."""
        self._is_flat = self._is_simple and all(
            len(set(part.tolist())) == 1
            for optimiser in self.optimisers
            for part in optimiser.moments["step"].split(self._counts)
        )

    def step(self, factor: float) -> None:
        """Update all clients' parameters, and drop the gradients."""
        gradients = [parameter.grad for parameter in self.stacked]
        for parameter in self.stacked:
            parameter.grad = None
        whole = [gradient for gradient in gradients if gradient is not None]
        if self._is_flat and len(whole) == len(gradients):
            self._step_groups(whole, factor)
        else:
            self._is_flat = False
            self._step_by_client(gradients, factor)

    @torch.no_grad()
    def _step_groups(self, gradients: Sequence[Tensor], factor: float) -> None:
        """Clip and step with one vector for each client and group."""
        settings, clients = self.settings, len(self.optimisers)
        flat = torch.cat([gradient.reshape(clients, -1) for gradient in gradients], dim=1)
        if settings.clip > 0:
            flat.mul_((settings.clip / (row_norms(flat) + 1e-6)).clamp(max=1.0))
        defaults: dict[str, Any] = self.optimisers[0].adamw.defaults
        moments = [optimiser.moments for optimiser in self.optimisers]
        weights, parts = self.weights.split(self._sizes, dim=1), flat.split(self._sizes, dim=1)
        for number, group in enumerate(self.optimisers[0].groups):
            first = sum(self._counts[:number])
            torch._fused_adamw_(
                list(weights[number].unbind()),
                list(parts[number].unbind()),
                [own["exp_avg"].split(self._sizes)[number] for own in moments],
                [own["exp_avg_sq"].split(self._sizes)[number] for own in moments],
                [],
                [own["step"][first].add_(1) for own in moments],
                lr=learning_rate(group.role, settings) * factor,
                beta1=defaults["betas"][0],
                beta2=defaults["betas"][1],
                weight_decay=settings.weight_decay,
                eps=defaults["eps"],
                amsgrad=False,
                maximize=False,
            )
        for own in moments:  # one count of each group was raised: the others follow it
            for part in own["step"].split(self._counts):
                part.fill_(part[0])

    def _step_by_client(self, gradients: Sequence[Tensor | None], factor: float) -> None:
        """Let each client's optimiser step by itself."""
        for parameters, gradient in zip(
            zip(*(own.parameters for own in self.optimisers), strict=True), gradients, strict=True
        ):
            if gradient is not None:
                for parameter, own in zip(parameters, gradient.unbind(), strict=True):
                    parameter.grad = own
        for optimiser in self.optimisers:
            optimiser.step(factor)
