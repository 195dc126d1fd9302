"""Inject low-rank adapters into a base model for a while, one P and Q for each task of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.hooks import linear_at
from fedmosaic.models.backbone import Backbone


class Injection:
    """Add adapters to the sites of a base model inside a ``with`` block.

        y ← W x + B (P_t (A x) + Q_t),   t = the task of the sequence

    A, B, P, Q may require gradients. It trains many small tasks at the same time; an adapter of
    :class:`fedmosaic.adapters.CoLoraConfig` has one P and Q for all sequences.

    Args:
        backbone: its base model is hooked.
        sites: where adapters are added.
        subspace: ``{key}.A`` [r, d_in] and ``{key}.B`` [d_out, r] of every site.
    """

    def __init__(
        self, backbone: Backbone, sites: Sequence[AdapterSite], subspace: Mapping[str, Tensor]
    ) -> None:
        self.backbone = backbone
        self.sites = sites
        self.subspace = subspace

    @contextmanager
    def __call__(self, p: Tensor, q: Tensor) -> Iterator[None]:
        """Inject P [sites, tasks, r, r] and Q [sites, tasks, r].

        A batch holds the same number of sequences of each task, in the order of the tasks.
        """
        handles = []

        def add(number: int, key: str) -> Callable[..., Tensor]:
            a, b = self.subspace[f"{key}.A"], self.subspace[f"{key}.B"]

            def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
                z = args[0] @ a.t()
                groups = z.reshape(p.shape[1], -1, z.shape[-1])
                u = torch.baddbmm(q[number].unsqueeze(1), groups, p[number].transpose(1, 2))
                return output + u.reshape(z.shape) @ b.t()

            return hook

        try:
            for number, site in enumerate(self.sites):
                handles.append(
                    linear_at(self.backbone, site).register_forward_hook(add(number, site.key))
                )
            yield
        finally:
            for handle in handles:
                handle.remove()
