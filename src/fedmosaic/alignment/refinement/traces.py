"""Record what a base model does on a pseudo-task: inputs and output gradients at its sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.alignment.correspondence.positions import number_places
from fedmosaic.alignment.hooks import by_token, last_column, record_sites
from fedmosaic.alignment.refinement.pseudo_tasks import CONTRASTS, PseudoTask
from fedmosaic.data.example import Example
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone, Batch


@dataclass(frozen=True)
class Traces:
    """Hold the traces of a base model on the n examples of one pseudo-task, in half precision.

    Attributes:
        x: inputs of each site [n, T, d_in], padded on the left with zeros.
        g: for each site [n, 2, T, d_out], gradients of the two contrasts of the options' logits by
            the site's output, divided by the ``unit`` of :func:`record_traces`.
        images: int64 [n, T], the place of each token of an image, with one number for one place in
            all models and examples (:func:`image_places`); -1 for all other tokens.
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


def image_places(models: Sequence[Backbone], examples: Sequence[Example]) -> list[list[Tensor]]:
    """Give numbers to the image tokens of examples with the same number of images.

    Returns:
        for each model and example int64 [image tokens]. Models with other image sizes or tiles, and
        images of other shapes, have the places of the coarsest grid in common
        (:func:`~fedmosaic.alignment.correspondence.positions.number_places`).
    """
    counts = [
        [
            0
            if model.image_token_id is None
            else model.encode(example, answer=False).input_ids.count(model.image_token_id)
            for example in examples
        ]
        for model in models
    ]
    found = {count for own in counts for count in own}
    if len(found) == 1:
        return [[torch.arange(count) for count in own] for own in counts]
    numbered = iter(number_places([m.token_origins(one) for m in models for one in examples]))
    return [[next(numbered) for _ in examples] for _ in models]


def record_traces(
    backbone: Backbone,
    sites: Sequence[AdapterSite],
    task: PseudoTask,
    unit: float = 1e-2,
    places: Sequence[Tensor] | None = None,
) -> Traces:
    """Record one pseudo-task by one forward and two backward passes.

    Args:
        backbone: the model.
        sites: where it is recorded.
        task: the pseudo-task.
        unit: of the gradients.
        places: of the image tokens of each example (:func:`image_places`); default: as this model
            alone has them.

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
        name = f"{backbone.name}: {site.key}"
        inputs = by_token(recorded[site.key].x.detach(), real, name) * real[..., None]
        each_g = [by_token(each[number], real, name) for each in gradients]
        gradient = torch.stack(each_g, 1) * real[:, None, :, None] / unit
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
    if places is None:
        (places,) = image_places([backbone], task.examples)
    return Traces(x, g, _marked(backbone, batch, places))


def _marked(backbone: Backbone, batch: Batch, places: Sequence[Tensor]) -> Tensor:
    """Write the place of each image token into a table of all tokens [n, T]."""
    if backbone.image_token_id is None:
        return torch.full(batch.input_ids.shape, -1)
    ids = batch.input_ids.cpu()
    return torch.full(ids.shape, -1).masked_scatter(
        ids == backbone.image_token_id, torch.cat(list(places))
    )


def _contrasts(backbone: Backbone, batch: Batch, task: PseudoTask) -> Tensor:
    """Return both contrasts of the options' logits [2], summed over the examples."""
    first = [
        [backbone.answer_ids(word)[0] for word in example.options] for example in task.examples
    ]
    with backbone.input_gradients():
        last = backbone.logits(backbone.model, batch, last_column(backbone, batch))[:, -1]
    logits = last.float().gather(1, torch.tensor(first, device=last.device))
    contrasts: Tensor = (logits @ CONTRASTS.t().to(logits)).sum(0)
    return contrasts
