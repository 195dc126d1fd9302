"""Run the bare base model and record inputs and outputs at its adapter sites."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.errors import ModelError, nearest
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.linear import widths


def linear_at(backbone: Backbone, site: AdapterSite) -> nn.Module:
    """Return the linear layer at a site of the backbone's base model.

    Raises:
        ModelError: the decoder layer has no module of that role.
    """
    linears = {
        found.role: found.module for found in backbone.roles[site.layer] if not found.excluded
    }
    if site.module not in linears:
        raise ModelError(
            f"{backbone.name}: layer {site.layer} has no linear module {site.module!r}."
            f"{nearest(site.module, linears)}"
        )
    return linears[site.module]


def site_widths(backbone: Backbone, site: AdapterSite) -> tuple[int, int]:
    """Return d_in and d_out of the linear layer at a site.

    Raises:
        ModelError: as :func:`linear_at`.
    """
    found = widths(linear_at(backbone, site))
    assert found is not None
    return found


@dataclass
class SiteActivations:
    """Hold the activations of one site in one forward pass.

    Attributes:
        x: inputs [n, T, d_in].
        y: outputs [n, T, d_out].

    Some models put all tokens of a batch into one dimension, [n · T, d]: see :func:`by_token`.
    """

    x: Tensor
    y: Tensor


def by_token(values: Tensor, mask: Tensor, site: str) -> Tensor:
    """Return the activations or gradients of a site by example and token, [n, T, d].

    Args:
        values: of all tokens of a batch, [n, T, d] or [n · T, d], or with dimensions of size 1.
        mask: attention mask of the batch [n, T].
        site: model and site, for messages.

    Raises:
        ModelError: the site sees other tokens than those of the batch.
    """
    held = [size for size in values.shape[:-1] if size > 1]
    if held not in ([size for size in mask.shape if size > 1], [mask.numel()]):
        raise ModelError(
            f"{site} has activations of shape {list(values.shape)} for {list(mask.shape)} tokens, "
            "which cannot be matched with another model's: share other modules "
            "(adapter.shared_modules)"
        )
    return values.reshape(*mask.shape, values.shape[-1])


@contextmanager
def record_sites(
    backbone: Backbone, sites: Sequence[AdapterSite]
) -> Iterator[dict[str, SiteActivations]]:
    """Record inputs and outputs of the sites, by site key, in every forward pass of the context.

    A later pass replaces the record of an earlier one.
    """
    recorded: dict[str, SiteActivations] = {}

    def recorder(key: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            recorded[key] = SiteActivations(args[0], output)

        return hook

    handles = [
        linear_at(backbone, site).register_forward_hook(recorder(site.key)) for site in sites
    ]
    try:
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def forward(backbone: Backbone, batch: Batch, model: Any = None, gradients: bool = False) -> Tensor:
    """Run a model and return the logits of the columns that predict labels.

    The first column is the one before the first label of the batch.

    Args:
        backbone: of the batch.
        batch: K is the width of its labels.
        model: the model that runs; the backbone's base model by default.
        gradients: let the input embeddings require gradients, so that all later activations do.

    Returns:
        logits [n, K + 1, vocabulary].
    """
    length = batch.labels.shape[1]
    columns = batch.columns(length - 1 - min(batch.answer_width, length - 1), length)
    with backbone.input_gradients() if gradients else nullcontext():
        return backbone.logits(backbone.model if model is None else model, batch, columns)


def last_column(backbone: Backbone, batch: Batch) -> Tensor | int:
    """Return the last column for :meth:`Backbone.logits`, with all layers run on all tokens.

    Asked for a number of last columns, Gemma 4 runs the layers that share keys and values on these
    columns alone. Other models get the number, with which the published alignments were made.
    """
    width = batch.input_ids.shape[1]
    shared = getattr(backbone.text_config, "num_kv_shared_layers", 0)
    return batch.columns(width - 1, width) if shared else 1
