"""Which layer of one model answers to which of another: linear CKA between all pairs of layers, in one pass.

For centred features X [n, d₁] and Y [n, d₂] of the same n tokens,

    CKA(X, Y) = ‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F)

Source: Kornblith et al. 2019 (arXiv 1905.00414), eq. 3 and section 3; FedMosaic (arXiv 2506.11024) uses it to show that layers
of equal relative depth resemble one another most. Only the moments XᵀX, YᵀY, XᵀY and the means are kept, in float64, so memory
does not grow with the samples and their order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from fedmosaic.alignment.correspondence.positions import match, pool, stack
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.token_origins import TokenKind
from fedmosaic.seeding import seed_for

EXACT_LIMIT = 1 << 23
"""Most entries of the cross-moments of all layers (8 bytes each); wider layers are first reduced until they fit."""

SAMPLE_TOKENS = 1024
"""Tokens that the directions of a reduction are found on."""

Bases = tuple[Sequence[Tensor], Sequence[Tensor]]


class StreamedCka:
    """CKA between every layer of one model and every layer of another, fed batch by batch.

    Args:
        layers: number of layers of each model.
        widths: their width.
        bases: for each model one [width, k] of orthonormal columns a layer: only these directions count (see
            :func:`principal_bases`). None: all of them, and the result is exact.
    """

    def __init__(
        self, layers: tuple[int, int], widths: tuple[int, int], bases: Bases | None = None
    ) -> None:
        self.sides = [
            _Side(count, width, None if bases is None else bases[side])
            for side, (count, width) in enumerate(zip(layers, widths, strict=True))
        ]
        self.cross = torch.zeros(
            *(side.count * side.width for side in self.sides), dtype=torch.float64
        )
        self.tokens = 0

    def update(self, first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
        """Add tokens: one [n, width] for each layer of each model, row t of the one belonging to row t of the other."""
        one, two = (
            side.update(states) for side, states in zip(self.sides, (first, second), strict=True)
        )
        self.cross.addmm_(one.t(), two)
        self.tokens += len(one)

    def matrix(self) -> Tensor:
        """CKA [layers of the first, layers of the second], float64, between 0 and 1; 0 for a layer that never varies.

        Raises:
            DataError: fewer than two tokens were seen.
        """
        if self.tokens < 2:
            raise DataError(f"CKA needs two tokens at least; it saw {self.tokens}")
        one, two = self.sides
        cross = self.cross - torch.outer(one.total, two.total) / self.tokens
        blocks = cross.view(one.count, one.width, two.count, two.width)
        shared = blocks.square().sum(dim=(1, 3))
        own = torch.outer(
            *(side.centred(self.tokens).square().sum(dim=(1, 2)).sqrt() for side in self.sides)
        )
        return torch.where(own > 0, shared / own.clamp_min(1e-300), 0.0).clamp(0.0, 1.0)

    def captured(self) -> float:
        """The share of the variance that the bases hold, in the layer where they hold least; 1 without bases."""
        return min(side.captured(self.tokens) for side in self.sides)


class _Side:
    """One model's share: sums and second moments of each layer, in the directions of its basis."""

    def __init__(self, count: int, width: int, bases: Sequence[Tensor] | None) -> None:
        self.count = count
        self.bases = None if bases is None else [basis.to(torch.float64) for basis in bases]
        self.width = width if self.bases is None else self.bases[0].shape[1]
        self.total = torch.zeros(count * self.width, dtype=torch.float64)
        self.moments = torch.zeros(count, self.width, self.width, dtype=torch.float64)
        self.full_total = torch.zeros(count, width, dtype=torch.float64)
        self.full_squares = torch.zeros(count, dtype=torch.float64)

    def update(self, states: Sequence[Tensor]) -> Tensor:
        """Take one [n, d] a layer; returns what counts of them side by side, float64 [n, layers x width]."""
        rows = []
        for index, state in enumerate(states):
            wide = state.to("cpu", torch.float64)
            self.full_total[index] += wide.sum(0)
            self.full_squares[index] += wide.square().sum()
            rows.append(wide if self.bases is None else wide @ self.bases[index])
            self.moments[index].addmm_(rows[-1].t(), rows[-1])
        joined = torch.cat(rows, dim=1)
        self.total += joined.sum(0)
        return joined

    def centred(self, tokens: int) -> Tensor:
        """XᵀX of each layer, centred [layers, width, width]."""
        total = self.total.view(self.count, self.width)
        return self.moments - total[:, :, None] * total[:, None, :] / tokens

    def captured(self, tokens: int) -> float:
        held = self.centred(tokens).diagonal(dim1=1, dim2=2).sum(1)
        full = self.full_squares - self.full_total.square().sum(1) / tokens
        return float((held / full.clamp_min(1e-300)).clamp(0.0, 1.0).min())


def principal_bases(states: Sequence[Tensor], k: int) -> list[Tensor]:
    """For each layer's sample [n, d] its k principal directions [d, k], float64, orthonormal columns.

    CKA weighs directions by their squared variance, so the strongest hundred hold nearly all of it, where a random projection
    to as many dimensions errs by several hundredths.

    Raises:
        DataError: fewer than k + 1 tokens.
    """
    bases = []
    for state in states:
        wide = state.to("cpu", torch.float64)
        if len(wide) <= k:
            raise DataError(
                f"{len(wide)} tokens are too few to find {k} directions; give more public examples"
            )
        wide = wide - wide.mean(0)
        # The smaller of the two Gram matrices has the same non-zero eigenvalues.
        if len(wide) < wide.shape[1]:
            vectors = wide.t() @ torch.linalg.eigh(wide @ wide.t())[1][:, -k:]
            bases.append(torch.linalg.qr(vectors.flip(1))[0])
        else:
            bases.append(torch.linalg.eigh(wide.t() @ wide)[1][:, -k:].flip(1))
    return bases


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
    """Stream public examples through two models and compare the outputs of all their decoder layers.

    Tokens that answer to one another are compared (mean-pooled where several do); template tokens are left out. Models whose
    cross-moments would exceed ``limit`` are compared in the principal directions of a sample of the examples, which depends
    on the seed and the examples' ids, not on their order.

    Args:
        first, second: the models, on whatever devices.
        examples: public samples.
        batch_size: examples at a time; the result does not depend on it.
        limit: most entries of the cross-moments.
        seed: of the sample.
        progress: called with the number of examples done after each batch.

    Raises:
        DataError: as :func:`~fedmosaic.alignment.correspondence.positions.match`, or too few tokens.
        ModelError: ``limit`` is less than the number of pairs of layers.
    """
    models = first, second
    layers = first.num_layers, second.num_layers
    widths = first.hidden_size, second.hidden_size
    bases: Bases | None = None
    if layers[0] * widths[0] * layers[1] * widths[1] > limit:
        k = min(int((limit / (layers[0] * layers[1])) ** 0.5), *widths)
        if k < 1:
            raise ModelError(
                f"{layers[0]} x {layers[1]} layers need a limit of as many entries at least, not {limit}"
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
    kept: tuple[list[list[Tensor]], list[list[Tensor]]] = ([], [])
    tokens = 0
    for index in order:
        for rows, states in zip(kept, _pooled_outputs(models, [examples[index]]), strict=True):
            rows.append([state.cpu() for state in states])
        tokens += len(kept[0][-1][0])
        if tokens >= SAMPLE_TOKENS:
            break
    one, two = (
        [torch.cat(layer)[:SAMPLE_TOKENS] for layer in zip(*rows, strict=True)] for rows in kept
    )
    return principal_bases(one, k), principal_bases(two, k)


def _pooled_outputs(
    models: tuple[Backbone, Backbone], examples: Sequence[Example]
) -> list[list[Tensor]]:
    """For each model, one [groups, hidden] a layer: the outputs of its layers, pooled to the groups of the two models."""
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
    """The bare model's hidden states [n, T, hidden] after each decoder layer (before the final norm)."""
    with _recording(backbone) as states:
        backbone.model(
            inputs_embeds=backbone.embed(batch),
            attention_mask=batch.attention_mask,
            logits_to_keep=1,
            use_cache=False,
        )
    return states


@contextmanager
def _recording(backbone: Backbone) -> Iterator[list[Tensor]]:
    states: list[Tensor] = []

    def record(_: Any, __: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    with ExitStack() as hooks:
        for layer in backbone.language_layers:
            hooks.callback(layer.register_forward_hook(record).remove)
        yield states
