"""Learn P and Q from first-order effects by kernel ridge regression."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.alignment.transfer.effects import record_effects
from fedmosaic.alignment.transfer.frame import CoLoraFrame
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone

PENALTY = 1.0
"""λ, relative to the mean square of a row of J."""


def learn_transferable(
    backbone: Backbone,
    frame: CoLoraFrame,
    examples: Sequence[Example],
    *,
    penalty: float = PENALTY,
    batch_size: int = 16,
) -> dict[str, Tensor]:
    """Learn P and Q of a task so that they work in other architectures, too.

    Nothing is trained by steps: J is recorded at P = Q = 0 of the bare base model
    (:func:`.record_effects`), and P and Q are the solution of :func:`kernel_ridge`. Their change is
    small. They are to be read by difference (:mod:`fedmosaic.evaluation.difference`).

    Args:
        backbone: the bare base model.
        frame: where it carries Co-LoRA, with aligned A and B.
        examples: training examples of one task. One P for several tasks is worse at each of them.
        penalty: λ of :func:`kernel_ridge`.
        batch_size: most sequences in a batch.

    Returns:
        ``block.{k}.{module}.P`` [r, r] and ``.Q`` [r], float32 in main memory.

    Raises:
        DataError: as :func:`.record_effects`.
        ModelError: as :func:`.record_effects`.
    """
    effects = record_effects(backbone, frame, examples, batch_size)
    return frame.split(kernel_ridge(effects.rows, effects.targets, penalty))


def kernel_ridge(
    rows: Tensor,
    targets: Tensor,
    penalty: float = PENALTY,
    start: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Return the w that minimises Σ_i v_i (y_i − J_i w)² + λ m ‖w − w₀‖².

    m is the mean square of a row of J, weighted by v, so that λ has no unit. With fewer rows than
    columns and without weights

        w = w₀ + Jᵀ (J Jᵀ + λ m I)⁻¹ (y − J w₀)

    costs n³ for n rows; weights multiply rows and targets by √v. A large λ gives the direction of
    the first gradient step, a small one what training until convergence would reach in a linear
    model.

    Args:
        rows: J [n, d].
        targets: y [n].
        penalty: λ, above 0.
        start: w₀ [d], such as a P and Q that came from another model; None: zeros.
        weights: v [n], above 0; None: ones.

    Returns:
        w [d] in the dtype of ``rows``; w₀ where J is zero.
    """
    start = torch.zeros_like(rows[0]) if start is None else start
    share = 1.0
    if weights is not None:
        share = float(weights.double().mean())
        rows, targets = rows * weights.sqrt()[:, None], targets * weights.sqrt()
    kernel = (rows @ rows.t()).double()
    size = kernel.diagonal().mean() / share
    if not bool(size > 0):
        return start
    ridge = penalty * size * torch.eye(len(kernel), dtype=kernel.dtype)
    missing = targets.to(kernel) - (rows @ start).double()
    solution: Tensor = torch.linalg.solve(kernel + ridge, missing)
    return start + solution.to(rows.dtype) @ rows
