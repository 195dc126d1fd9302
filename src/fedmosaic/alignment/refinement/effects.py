"""What an entry of P does to a choice, to first order: the features in which a P is learned, and in which another model reads it.

With x the input of a site at token t and g the gradient of a contrast c of the options' logits with respect to the site's output,

    f_c(example; P) ≈ f_c(example; 0) + Σ_sites ⟨P, φ_c⟩,      φ_c = Σ_t (Bᵀ g_{c,t}) (A x_t)ᵀ

so P learned by gradient steps is a sum of the φ of its examples, and in another model it acts through that model's own φ. Two models
agree on what P means as far as their φ agree; A and B enter nowhere else. x and g are looked at once and kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.hooks import watching
from fedmosaic.alignment.refinement.pseudo_tasks import CONTRASTS, Question
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone

Subspaces = Mapping[str, Tensor]


@dataclass(frozen=True)
class Traces:
    """What a bare model does on the n examples of one question, in half precision.

    Attributes:
        x: for each site [n, T, d_in], padded on the left with zeros. g: for each site [n, 2, T, d_out], in units of ``unit``.
        last: for each site [n, d_in], the input at the token that predicts the answer. images: [n, T], tokens of images.
    """

    x: Mapping[str, Tensor]
    g: Mapping[str, Tensor]
    images: Tensor

    def at(self, key: str) -> Traces:
        """Those of one site."""
        return Traces({key: self.x[key]}, {key: self.g[key]}, self.images)

    @property
    def last(self) -> dict[str, Tensor]:
        return {key: x[:, -1].float() for key, x in self.x.items()}


def trace(
    backbone: Backbone, sites: Sequence[AdapterSite], question: Question, unit: float = 1e-2
) -> Traces:
    """Look at a question: one forward and two backward passes.

    Raises:
        ModelError: a gradient is not finite.
    """
    batch = backbone.collate(
        [backbone.encode(example, answer=False) for example in question.examples]
    )
    real = batch.attention_mask.bool()
    first = [
        [backbone.answer_ids(word)[0] for word in example.options] for example in question.examples
    ]
    with watching(backbone, sites) as seen:
        embedded = backbone.embed(batch).requires_grad_()
        output = backbone.model(
            inputs_embeds=embedded,
            attention_mask=batch.attention_mask,
            logits_to_keep=1,
            use_cache=False,
        )
    logits = (
        output.logits[:, -1].float().gather(1, torch.tensor(first, device=output.logits.device))
    )
    contrasts = (logits @ CONTRASTS.t().to(logits)).sum(0)
    outputs = [seen[site.key].y for site in sites]
    gradients = [
        torch.autograd.grad(value, outputs, retain_graph=number < 1)
        for number, value in enumerate(contrasts)
    ]
    x, g = {}, {}
    for number, site in enumerate(sites):
        kept = seen[site.key].x.detach() * real[..., None]
        gradient = (
            torch.stack([each[number] for each in gradients], 1) * real[:, None, :, None] / unit
        )
        for values in (kept, gradient):
            if not bool(torch.isfinite(values).all()):
                raise ModelError(
                    f"{backbone.name}: inputs or gradients at {site.key} are not finite; use dtype float32"
                )
        x[site.key], g[site.key] = (
            kept.to("cpu", torch.float16),
            gradient.clamp(-6e4, 6e4).to("cpu", torch.float16),
        )
    images = batch.input_ids.eq(
        -1 if backbone.image_token_id is None else backbone.image_token_id
    ).cpu()
    return Traces(x, g, images)


def effects(traces: Traces, subspaces: Subspaces) -> Tensor:
    """φ of both contrasts of every example, all sites side by side: [n, 2, sites · r · r]."""
    found = []
    for key, x in traces.x.items():
        z = x.float() @ subspaces[f"{key}.A"].t()
        u = traces.g[key].float() @ subspaces[f"{key}.B"]
        found.append((u.transpose(-1, -2) @ z[:, None]).flatten(2))
    return torch.cat(found, -1)


def learn(kernel: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """Kernel ridge regression: α [n · 2] with P = Σ α φ, for ``targets`` [n, 2] and ⟨φ, φ⟩ [n, 2, n, 2].

    The ridge is relative to the mean of the diagonal. A large one is the first gradient step, a small one training to the end.
    """
    size = targets.numel()
    square = kernel.reshape(size, size)
    penalty = ridge * square.diagonal().mean() * torch.eye(size, dtype=square.dtype)
    solution: Tensor = torch.linalg.solve(square + penalty, targets.reshape(-1).to(square))
    return solution
