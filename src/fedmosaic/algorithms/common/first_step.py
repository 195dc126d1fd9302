"""Estimate the first step of full fine-tuning, and the best subspaces to repeat it in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.hooks import record_sites
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.loss import answer_loss


def summed_gradients(
    backbone: Backbone, sites: Sequence[AdapterSite], examples: Sequence[Example], size: int
) -> dict[str, Tensor]:
    """Return the gradients of the answers' loss by the weights of linear layers, summed up.

    The weights themselves need no gradient and may be quantised: the gradient is δᵀ x of inputs x
    and output gradients δ.

    Args:
        backbone: the bare base model.
        sites: the linear layers.
        examples: in batches of ``size``, over each of which the loss is a mean.
        size: number of examples in a batch.

    Returns:
        by site key, [d_out, d_in] in float32 and main memory.
    """
    total: dict[str, Tensor] = {}
    for start in range(0, len(examples), size):
        part = examples[start : start + size]
        batch = backbone.collate([backbone.encode(example) for example in part])
        with record_sites(backbone, sites) as recorded, backbone.input_gradients():
            loss = answer_loss(backbone.model, backbone, batch)
        outputs = [recorded[site.key].y for site in sites]
        for site, delta in zip(sites, torch.autograd.grad(loss, outputs), strict=True):
            x = recorded[site.key].x.detach().flatten(0, -2).float()
            found = (delta.flatten(0, -2).float().t() @ x).cpu()
            total[site.key] = total[site.key] + found if site.key in total else found
    return total


def leading_subspaces(update: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return B, R and A with B R A the best approximation of an update at a rank.

    B has the leading left singular vectors as columns, A the right ones as rows, and R the singular
    values on its diagonal. The largest entry of each row of A is positive, so that two machines
    agree on the signs. Directions beyond the rank of the update are zero.

    Args:
        update: [d_out, d_in].
        rank: r.

    Returns:
        B [d_out, r], R [r, r] and A [r, d_in], float64.
    """
    wide = update.shape[0] <= update.shape[1]
    matrix = update.double() if wide else update.double().t()
    # The Gram matrix of the shorter side costs a fraction of a whole SVD.
    squares, vectors = torch.linalg.eigh(matrix @ matrix.t())
    count = min(rank, len(squares))
    left = vectors.flip(1)[:, :count]
    sigma = squares.flip(0)[:count].clamp_min(0).sqrt()
    sigma = torch.where(sigma > 1e-6 * sigma[0], sigma, 0)
    right = torch.where(sigma > 0, matrix.t() @ left / sigma, 0)
    left = torch.where(sigma > 0, left, 0)
    b, a = (left, right.t()) if wide else (right, left.t())
    sign = torch.where(a.gather(1, a.abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0).double()
    missing = rank - count
    a = torch.cat([a * sign, a.new_zeros(missing, a.shape[1])])
    b = torch.cat([b * sign.t(), b.new_zeros(b.shape[0], missing)], dim=1)
    return b, torch.diag(torch.cat([sigma, sigma.new_zeros(missing)])), a
