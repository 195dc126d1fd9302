"""Which layers of a model talk to which layers of another: blocks of equal relative depth."""

from __future__ import annotations

from fedmosaic.errors import ModelError


def block_ends(num_layers: int, num_blocks: int) -> tuple[int, ...]:
    """The last layer (0-based) of each of ``num_blocks`` blocks of a model of ``num_layers`` layers.

    Block k (1-based) of N_B ends at layer ``k * floor(L / N_B) - 1``; the last block takes what is left and ends at
    ``L - 1``. Layers of equal relative depth resemble one another most across models (CKA; FedMosaic, arXiv 2506.11024,
    section on block-wise aggregation). For L = 16 and N_B = 4: ``(3, 7, 11, 15)``.

    Raises:
        ModelError: when the model has fewer layers than blocks, or there is no block.
    """
    if num_blocks < 1:
        raise ModelError(f"num_blocks is {num_blocks}; at least one block is needed.")
    if num_layers < num_blocks:
        raise ModelError(
            f"A model of {num_layers} layers cannot be cut into {num_blocks} blocks: lower num_blocks to "
            f"{max(num_layers, 1)} or less for every client of the federation, or leave this model out."
        )
    size = num_layers // num_blocks
    return (*(k * size - 1 for k in range(1, num_blocks)), num_layers - 1)


def even_block_ends(num_layers: int, num_blocks: int) -> tuple[int, ...]:
    """Ends at ``round(k L / N_B) - 1``: as even as can be where the blocks do not divide the layers.

    The paper's rule puts what is left over into the last block, so that for L = 10 and N_B = 8 the seventh block ends at 70 % of the
    depth where it ends at 88 % of a model of 8 layers. Equal to :func:`block_ends` where N_B divides L.

    Raises:
        ModelError: as :func:`block_ends`.
    """
    block_ends(num_layers, num_blocks)
    return tuple(round(k * num_layers / num_blocks) - 1 for k in range(1, num_blocks + 1))
