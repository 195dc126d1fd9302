"""Compute what an entry of P changes in a choice, to first order.

With x the input of a site at token t, and g the gradient of a contrast c of the options' logits by
the site's output,

    f_c(example; P) ≈ f_c(example; 0) + Σ_sites ⟨P, φ_c⟩,      φ_c = Σ_t (Bᵀ g_{c,t}) (A x_t)ᵀ

A P that is learned by gradient steps is a sum of the effects φ of its examples. In another model it
acts through the effects of that model. Two models therefore agree on the meaning of P as far as
their φ agree. A and B enter nowhere else, so x and g are recorded once
(:mod:`fedmosaic.alignment.refinement.traces`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedmosaic.alignment.common import Subspaces
from fedmosaic.alignment.refinement.traces import Traces


def effects(traces: Traces, subspaces: Subspaces) -> Tensor:
    """Compute φ of both contrasts of every example.

    Returns:
        [n, 2, sites · r · r], all sites side by side.
    """
    found = []
    for key, x in traces.x.items():
        z = x.float() @ subspaces[f"{key}.A"].t()
        u = traces.g[key].float() @ subspaces[f"{key}.B"]
        found.append((u.transpose(-1, -2) @ z[:, None]).flatten(2))
    return torch.cat(found, -1)


def learn(kernel: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Learn a P by kernel ridge regression: P = Σ α φ.

    Args:
        kernel: ⟨φ, φ⟩ of the examples [n, 2, n, 2].
        targets: target contrasts [n, 2].
        ridge: penalty relative to the mean of the kernel's diagonal. A large penalty corresponds to
            the first gradient step, a small one to training until convergence.

    Returns:
        α [n · 2].
    """
    size = targets.numel()
    square = kernel.reshape(size, size)
    penalty = ridge * square.diagonal().mean() * torch.eye(size, dtype=square.dtype)
    solution: Tensor = torch.linalg.solve(square + penalty, targets.reshape(-1).to(square))
    return solution
