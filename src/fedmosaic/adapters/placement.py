"""Choose the layers and modules that carry Co-LoRA: the ends of N_B blocks of equal depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from fedmosaic.config import AdapterSettings
from fedmosaic.errors import ModelError
from fedmosaic.models.roles import PROJECTIONS

BlockRule = Literal["depth", "even", "cka"]


class AdapterSite(NamedTuple):
    """Name one adapted linear layer of a model.

    Attributes:
        layer: 0-based decoder layer.
        module: role of the linear layer, e.g. ``q_proj`` (:mod:`fedmosaic.models.roles`).
        block: 0-based block whose last layer this is; None for ordinary LoRA between block ends.
    """

    layer: int
    module: str
    block: int | None = None

    @property
    def key(self) -> str:
        """Return the common name of this site's tensors in all models: ``block.{k}.{module}``."""
        return f"block.{self.block}.{self.module}"


@dataclass(frozen=True)
class Placement:
    """State where Co-LoRA sits in a model and at which rank.

    Attributes:
        r: rank of A, B, P and Q.
        num_blocks: N_B, the number of blocks; 0 places no Co-LoRA.
        modules: roles of the linear layers that carry Co-LoRA at block ends.
        block_rule: how block ends are chosen: ``depth``, ``even`` or ``cka``.
        by_block: these roles for each block, where blocks differ; empty: ``modules`` everywhere.
    """

    r: int
    num_blocks: int
    modules: tuple[str, ...]
    block_rule: BlockRule = "depth"
    by_block: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def of(cls, settings: AdapterSettings) -> Placement:
        """Return the placement of Co-LoRA in an adapter with these settings."""
        flat, by_block = settings.shared_roles
        return cls(
            r=settings.shared_r or settings.r,
            num_blocks=settings.num_blocks,
            modules=flat or settings.target_modules or PROJECTIONS,
            block_rule=settings.block_rule,
            by_block=by_block,
        )

    def sites(self, layers: Sequence[int]) -> list[AdapterSite]:
        """List the Co-LoRA sites, block by block, of a model whose blocks end at ``layers``."""
        if not self.by_block:
            return sites_of(layers, self.modules)
        return [
            AdapterSite(layer, module, block)
            for block, layer in enumerate(layers)
            for module in self.by_block[block]
        ]

    def block_ends(self, num_layers: int) -> tuple[int, ...]:
        """Return the block ends of a model of ``num_layers`` layers by depth alone.

        With ``block_rule="cka"`` these are the pivot's; other models are then matched to it by CKA.

        Raises:
            ModelError: the model has fewer layers than blocks.
        """
        rule = even_block_ends if self.block_rule == "even" else block_ends
        return rule(num_layers, self.num_blocks)


def sites_of(layers: Sequence[int], modules: Sequence[str]) -> list[AdapterSite]:
    """List the sites, block by block, of a model with the same modules at the end of each block."""
    return [
        AdapterSite(layer, module, block)
        for block, layer in enumerate(layers)
        for module in modules
    ]


def block_ends(num_layers: int, num_blocks: int) -> tuple[int, ...]:
    """Return the last layer (0-based) of each of ``num_blocks`` blocks of a model.

    Block k (1-based) of N_B ends at layer ``k * floor(L / N_B) - 1`` of L layers. The last block
    takes the remaining layers and ends at ``L - 1``. Layers of equal relative depth resemble one
    another most across models (CKA; FedMosaic, arXiv 2506.11024, section on block-wise
    aggregation). For L = 16 and N_B = 4 the ends are ``(3, 7, 11, 15)``.

    Args:
        num_layers: L, the number of decoder layers of the model.
        num_blocks: N_B.

    Raises:
        ModelError: the model has fewer layers than blocks, or there is no block.
    """
    if num_blocks < 1:
        raise ModelError(f"num_blocks is {num_blocks}; at least one block is needed.")
    if num_layers < num_blocks:
        raise ModelError(
            f"A model of {num_layers} layers cannot be cut into {num_blocks} blocks: lower "
            f"num_blocks to {max(num_layers, 1)} or less for every client of the federation, or "
            "leave this model out."
        )
    size = num_layers // num_blocks
    return (*(k * size - 1 for k in range(1, num_blocks)), num_layers - 1)


def even_block_ends(num_layers: int, num_blocks: int) -> tuple[int, ...]:
    """Return block ends that are as even as possible: block k ends at ``round(k L / N_B) - 1``.

    The paper's rule (:func:`block_ends`) puts all remaining layers into the last block: for L = 10
    and N_B = 8 its seventh block ends at 70 % of the depth, but at 88 % in a model of 8 layers.
    Both rules agree where N_B divides L.

    Raises:
        ModelError: as :func:`block_ends`.
    """
    block_ends(num_layers, num_blocks)
    return tuple(round(k * num_layers / num_blocks) - 1 for k in range(1, num_blocks + 1))
