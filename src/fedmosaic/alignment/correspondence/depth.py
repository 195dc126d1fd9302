"""Which layers of a model end its blocks: the rule of relative depth, or the layers most like the pivot's by CKA."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fedmosaic.adapters.placement import block_ends, even_block_ends
from fedmosaic.alignment.correspondence.cka import StreamedCka
from fedmosaic.config import AlignmentSettings
from fedmosaic.errors import ModelError

Pairs = list[tuple[int, int]]
"""A layer of the model and one of the pivot (both 0-based) for each block."""


def depth_ends(layers: int, settings: AlignmentSettings) -> tuple[int, ...]:
    """The block ends of a model before any comparison with the pivot: by the paper's rule, or ``even``."""
    rule = even_block_ends if settings.layers == "even" else block_ends
    return rule(layers, settings.blocks)


def relative_depth_pairs(layers: int, pivot_layers: int, num_blocks: int) -> Pairs:
    """The block ends of a model and of the pivot, block by block, each by the rule of relative depth.

    Raises:
        ModelError: as :func:`~fedmosaic.adapters.block_ends`.
    """
    return list(
        zip(block_ends(layers, num_blocks), block_ends(pivot_layers, num_blocks), strict=True)
    )


def cka_monotone_matching(cka: Tensor, pivot_ends: Sequence[int]) -> Pairs:
    """The model's layers, in strictly rising order, whose total CKA with the pivot's block ends is the greatest.

    The pivot's ends are given, since all models of a federation share them. Dynamic programming, exact: with c = cka[i, p_k],

        best(k, i) = c + max over j < i of best(k − 1, j)

    Args:
        cka: [layers, pivot layers].
        pivot_ends: rising layers of the pivot.

    Raises:
        ModelError: the model has fewer layers than there are block ends.
    """
    layers = cka.shape[0]
    if layers < len(pivot_ends):
        raise ModelError(f"a model of {layers} layers cannot be cut into {len(pivot_ends)} blocks")
    columns = cka[:, list(pivot_ends)].t().tolist()
    best = columns[0]
    came_from: list[list[int]] = []
    for column in columns[1:]:
        leaders: list[
            int
        ] = []  # for each layer, the best end of the block before among shallower layers
        for layer in range(layers):
            if layer < 2:
                leaders.append(layer - 1)
            else:
                leaders.append(layer - 1 if best[layer - 1] > best[leaders[-1]] else leaders[-1])
        best = [
            value + best[leader] if leader >= 0 else float("-inf")
            for value, leader in zip(column, leaders, strict=True)
        ]
        came_from.append(leaders)
    layer = max(range(layers), key=best.__getitem__)
    ends = [layer]
    for leaders in reversed(came_from):
        ends.append(leaders[ends[-1]])
    return list(zip(reversed(ends), pivot_ends, strict=True))


def compare_rules(cka: Tensor, num_blocks: int) -> list[dict[str, Any]]:
    """What the rule of relative depth loses against the best monotone matching, block by block.

    Args:
        cka: [layers, pivot layers].
        num_blocks: N_B.

    Returns:
        for each block ``block``, ``pivot_layer``, ``rule_layer`` and ``rule_cka``, ``best_layer`` and ``best_cka``, and ``lost``:
        the second CKA less the first (negative where the best total gives up something in this block).
    """
    rule = relative_depth_pairs(cka.shape[0], cka.shape[1], num_blocks)
    best = cka_monotone_matching(cka, [pivot for _, pivot in rule])
    found = []
    for block, ((ours, pivot), (theirs, _)) in enumerate(zip(rule, best, strict=True)):
        of_rule, of_best = float(cka[ours, pivot]), float(cka[theirs, pivot])
        found.append(
            {
                "block": block,
                "pivot_layer": pivot,
                "rule_layer": ours,
                "rule_cka": of_rule,
                "best_layer": theirs,
                "best_cka": of_best,
                "lost": of_best - of_rule,
            }
        )
    return found


def cka_report(cka: StreamedCka, num_blocks: int) -> dict[str, Any]:
    """The CKA of all layers as plain numbers, for an alignment's report.

    Returns:
        ``matrix`` [layers][pivot layers]; ``tokens``, how many were compared; ``captured``, the share of the variance that was
        looked at (1 where CKA is exact); ``blocks``, as :func:`compare_rules` gives them.
    """
    matrix = cka.matrix()
    return {
        "matrix": matrix.tolist(),
        "tokens": cka.tokens,
        "captured": cka.captured(),
        "blocks": compare_rules(matrix, num_blocks),
    }
