"""Where the shared adapters of a model sit, and what the bare model does there: inputs, outputs and output gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.errors import ModelError, nearest
from fedmosaic.models.backbone import Backbone, Batch


def linear_at(backbone: Backbone, site: AdapterSite, model: Any = None) -> nn.Linear:
    """The linear layer of a site in ``model`` (default: the backbone's bare base).

    Raises:
        ModelError: when the layer has no such module.
    """
    root = backbone.model if model is None else model
    layer = root.get_submodule(f"{backbone.layers_prefix}.{site.layer}")
    linears = {
        name.rpartition(".")[2]: module
        for name, module in layer.named_modules()
        if isinstance(module, nn.Linear)
    }
    if site.module not in linears:
        raise ModelError(
            f"{backbone.name}: layer {site.layer} has no linear module {site.module!r}.{nearest(site.module, linears)}"
        )
    return linears[site.module]


@dataclass
class Seen:
    """What one batch did at one site: ``x`` [n, T, d_in], ``y`` [n, T, d_out], with gradients of ``y`` on request."""

    x: Tensor
    y: Tensor


@contextmanager
def watching(backbone: Backbone, sites: Sequence[AdapterSite]) -> Iterator[dict[str, Seen]]:
    """Keep inputs and outputs of the sites of every forward pass inside, by key; the last pass stands."""
    seen: dict[str, Seen] = {}

    def watch(key: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            seen[key] = Seen(args[0], output)

        return hook

    handles = [linear_at(backbone, site).register_forward_hook(watch(site.key)) for site in sites]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def forward(backbone: Backbone, batch: Batch, model: Any = None, gradients: bool = False) -> Tensor:
    """Logits [n, K + 1, vocabulary] of the columns from the one before the first label on (see ``answer_logits``).

    With ``gradients`` the input embeddings require them, so that every later activation does.
    """
    embedded = backbone.embed(batch)
    if gradients:
        embedded = embedded.requires_grad_()
    length = batch.labels.shape[1]
    kept = batch.columns(length - 1 - min(batch.answer_width, length - 1), length)
    output = (backbone.model if model is None else model)(
        inputs_embeds=embedded,
        attention_mask=batch.attention_mask,
        logits_to_keep=kept,
        use_cache=False,
    )
    logits: Tensor = output.logits
    return logits


class Injection:
    """Low-rank adapters on the sites of a bare model while a block runs, with a P, Q of its own for each *task* of the batch.

        y ← W x + B (P_t (A x) + Q_t),   t = the task of the sequence

    A, B, P, Q may require gradients. For training many small tasks at once; an adapter that stays is a
    :class:`fedmosaic.adapters.CoLoraConfig`'s.

    Args:
        backbone: its bare base is hooked.
        sites: where.
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
        """Inject P [sites, tasks, r, r] and Q [sites, tasks, r]; a batch holds equally many sequences of each task, in order."""
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
