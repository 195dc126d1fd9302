"""Compare the layers of two models on public examples, in one pass over the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from fedmosaic.alignment.correspondence.cka import Bases, StreamedCka, principal_bases
from fedmosaic.alignment.correspondence.positions import match, pool, stack
from fedmosaic.alignment.hooks import last_column
from fedmosaic.data.example import Example
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.seeding import seed_for

EXACT_LIMIT = 1 << 23
"""Most entries (8 bytes each) of the cross-moments; wider layers are reduced first."""

SAMPLE_TOKENS = 1024
"""Number of tokens from which the directions of a reduction are computed."""


def layer_cka(
    first: Backbone,
    second: Backbone,
    examples: Sequence[Example],
    *,
    batch_size: int = 16,
    limit: int = EXACT_LIMIT,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> StreamedCka:
    """Compare the outputs of all decoder layers of two models on public examples.

    Corresponding tokens are compared, mean-pooled where there are several on a side. Template
    tokens are left out. Models whose cross-moments would exceed ``limit`` are compared in the
    principal directions of a sample of the examples, which is drawn by the seed and the ids of the
    examples and does not depend on their order.

    Args:
        first: a model on any device.
        second: the other model, possibly on another device.
        examples: public examples.
        batch_size: examples in one pass; the result does not depend on it.
        limit: most entries of the cross-moments.
        seed: seed of the sample.
        progress: called after each batch with the number of finished examples.

    Raises:
        DataError: as :func:`~fedmosaic.alignment.correspondence.positions.match`, or too few
            tokens.
        ModelError: ``limit`` is smaller than the number of pairs of layers.
    """
    models = first, second
    layers = first.num_layers, second.num_layers
    widths = first.hidden_size, second.hidden_size
    bases: Bases | None = None
    if layers[0] * widths[0] * layers[1] * widths[1] > limit:
        k = min(int((limit / (layers[0] * layers[1])) ** 0.5), *widths)
        if k < 1:
            raise ModelError(
                f"{layers[0]} x {layers[1]} layers need a limit of at least as many entries; "
                f"limit is {limit}"
            )
        bases = _sampled_bases(models, examples, k, seed)
    streamed = StreamedCka(layers, widths, bases)
    for start in range(0, len(examples), batch_size):
        part = [examples[index] for index in range(start, min(start + batch_size, len(examples)))]
        streamed.update(*_pooled_outputs(models, part))
        if progress:
            progress(start + len(part))
    return streamed


def _sampled_bases(
    models: tuple[Backbone, Backbone], examples: Sequence[Example], k: int, seed: int
) -> Bases:
    ids = [example.id for example in examples]
    order = sorted(range(len(ids)), key=lambda index: seed_for(seed, "cka", ids[index]))
    sampled: tuple[list[list[Tensor]], list[list[Tensor]]] = ([], [])
    tokens = 0
    for index in order:
        for rows, states in zip(sampled, _pooled_outputs(models, [examples[index]]), strict=True):
            rows.append([state.cpu() for state in states])
        tokens += len(sampled[0][-1][0])
        if tokens >= SAMPLE_TOKENS:
            break
    one, two = (
        [torch.cat(layer)[:SAMPLE_TOKENS] for layer in zip(*rows, strict=True)] for rows in sampled
    )
    return principal_bases(one, k), principal_bases(two, k)


def _pooled_outputs(
    models: tuple[Backbone, Backbone], examples: Sequence[Example]
) -> list[list[Tensor]]:
    """Return each model's layer outputs, averaged over the token groups of the two models.

    Returns:
        for each model one tensor [groups, hidden] for each layer.
    """
    matchings = [match(*models, example) for example in examples]
    matchings = [matching.select(matching.kind != TokenKind.TEMPLATE) for matching in matchings]
    counts = [matching.count for matching in matchings]
    pooled = []
    for backbone, side in zip(models, ("first", "second"), strict=True):
        batch = backbone.collate([backbone.encode(example) for example in examples])
        groups = stack(
            [getattr(matching, side) for matching in matchings], counts, batch.input_ids.shape[1]
        ).flatten()
        pooled.append(
            [
                pool(state.flatten(0, 1), groups, sum(counts))
                for state in layer_outputs(backbone, batch)
            ]
        )
    return pooled


@torch.no_grad()
def layer_outputs(backbone: Backbone, batch: Batch) -> list[Tensor]:
    """Return the base model's hidden states [n, T, hidden] after each decoder layer.

    The last of them is not yet normalised by the final norm.
    """
    with _recording(backbone) as states:
        backbone.logits(backbone.model, batch, last_column(backbone, batch))
    return states


@contextmanager
def _recording(backbone: Backbone) -> Iterator[list[Tensor]]:
    """Record the output of every decoder layer in the order of execution.

    Parallel streams, such as the four of Gemma 3n [streams, n, T, hidden], are averaged.
    """
    states: list[Tensor] = []

    def record(_: Any, __: Any, output: Any) -> None:
        state = output[0] if isinstance(output, tuple) else output
        states.append(state.mean(0) if state.dim() > 3 else state)

    with ExitStack() as hooks:
        for layer in backbone.language_layers:
            hooks.callback(layer.register_forward_hook(record).remove)
        yield states
