"""Record what a base model does on a pseudo-task: inputs and output gradients at its sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.hooks import record_sites
from fedmosaic.alignment.refinement.pseudo_tasks import CONTRASTS, PseudoTask
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone, Batch


@dataclass(frozen=True)
class Traces:
    """Hold the traces of a base model on the n examples of one pseudo-task, in half precision.

    Attributes:
        x: inputs of each site [n, T, d_in], padded on the left with zeros.
        g: for each site [n, 2, T, d_out], gradients of the two contrasts of the options' logits by
            the site's output, divided by the ``unit`` of :func:`record_traces`.
        images: bool [n, T], marks the tokens of images.
    """

    x: Mapping[str, Tensor]
    g: Mapping[str, Tensor]
    images: Tensor

    def at(self, key: str) -> Traces:
        """Return the traces of one site."""
        return Traces({key: self.x[key]}, {key: self.g[key]}, self.images)

    @property
    def last(self) -> dict[str, Tensor]:
        """Return each site's input [n, d_in] at the token that predicts the answer."""
        return {key: x[:, -1].float() for key, x in self.x.items()}


def record_traces(
    backbone: Backbone, sites: Sequence[AdapterSite], task: PseudoTask, unit: float = 1e-2
) -> Traces:
    """Record one pseudo-task by one forward and two backward passes.

    Raises:
        ModelError: an input or a gradient is not finite.
    """
    batch = backbone.collate([backbone.encode(example, answer=False) for example in task.examples])
    real = batch.attention_mask.bool()
    with record_sites(backbone, sites) as recorded:
        contrasts = _contrasts(backbone, batch, task)
    outputs = [recorded[site.key].y for site in sites]
    gradients = [
        torch.autograd.grad(value, outputs, retain_graph=number < 1)
        for number, value in enumerate(contrasts)
    ]
    x, g = {}, {}
    for number, site in enumerate(sites):
        inputs = recorded[site.key].x.detach() * real[..., None]
        gradient = (
            torch.stack([each[number] for each in gradients], 1) * real[:, None, :, None] / unit
        )
        for values in (inputs, gradient):
            if not bool(torch.isfinite(values).all()):
                raise ModelError(
                    f"{backbone.name}: inputs or gradients at {site.key} are not finite; "
                    "use dtype float32"
                )
        x[site.key], g[site.key] = (
            inputs.to("cpu", torch.float16),
            gradient.clamp(-6e4, 6e4).to("cpu", torch.float16),
        )
    images = batch.input_ids.eq(
        -1 if backbone.image_token_id is None else backbone.image_token_id
    ).cpu()
    return Traces(x, g, images)


def _contrasts(backbone: Backbone, batch: Batch, task: PseudoTask) -> Tensor:
    """Return both contrasts of the options' logits [2], summed over the examples."""
    first = [
        [backbone.answer_ids(word)[0] for word in example.options] for example in task.examples
    ]
    with backbone.input_gradients():
        last = backbone.logits(backbone.model, batch)[:, -1]
    logits = last.float().gather(1, torch.tensor(first, device=last.device))
    contrasts: Tensor = (logits @ CONTRASTS.t().to(logits)).sum(0)
    return contrasts
