"""Match the layers of a model to the pivot's block ends by CKA, and compare that with depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from fedmosaic.adapters.placement import block_ends
from fedmosaic.alignment.correspondence.cka import StreamedCka
from fedmosaic.errors import ModelError

LayerPairs = list[tuple[int, int]]
"""A layer of the model and a layer of the pivot (both 0-based) for each block."""


def relative_depth_pairs(layers: int, pivot_layers: int, num_blocks: int) -> LayerPairs:
    """Pair the block ends of a model with those of the pivot, both placed by relative depth.

    Raises:
        ModelError: as :func:`~fedmosaic.adapters.block_ends`.
    """
    return list(
        zip(block_ends(layers, num_blocks), block_ends(pivot_layers, num_blocks), strict=True)
    )


def cka_monotone_matching(cka: Tensor, pivot_ends: Sequence[int]) -> LayerPairs:
    """Find the rising sequence of layers with the greatest total CKA to the pivot's block ends.

    The pivot's ends are given, because all models of a federation share them. The dynamic program
    is exact; with c = cka[i, p_k],

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
        # For each layer the best end of the previous block among the shallower layers.
        leaders: list[int] = []
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
    """Measure, block by block, how much CKA relative depth loses against the best matching.

    Args:
        cka: [layers, pivot layers].
        num_blocks: N_B.

    Returns:
        for each block ``block``, ``pivot_layer``, ``rule_layer`` and ``rule_cka``, ``best_layer``
        and ``best_cka``, and ``lost``: the second CKA less the first. ``lost`` is negative where
        the best total gives up something in this block.
    """
    rule = relative_depth_pairs(cka.shape[0], cka.shape[1], num_blocks)
    best = cka_monotone_matching(cka, [pivot for _, pivot in rule])
    found = []
    for block, ((rule_layer, pivot), (best_layer, _)) in enumerate(zip(rule, best, strict=True)):
        rule_cka, best_cka = float(cka[rule_layer, pivot]), float(cka[best_layer, pivot])
        found.append(
            {
                "block": block,
                "pivot_layer": pivot,
                "rule_layer": rule_layer,
                "rule_cka": rule_cka,
                "best_layer": best_layer,
                "best_cka": best_cka,
                "lost": best_cka - rule_cka,
            }
        )
    return found


def cka_report(cka: StreamedCka, num_blocks: int) -> dict[str, Any]:
    """Report the CKA of all layers in plain numbers.

    Returns:
        ``matrix`` [layers][pivot layers]; ``tokens``, the number of compared tokens; ``captured``,
        the share of the variance that was compared (1 where CKA is exact); ``blocks``, as
        :func:`compare_rules` returns them.
    """
    matrix = cka.matrix()
    return {
        "matrix": matrix.tolist(),
        "tokens": cka.tokens,
        "captured": cka.captured(),
        "blocks": compare_rules(matrix, num_blocks),
    }
