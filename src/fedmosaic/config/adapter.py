"""Define the shape of the adapters."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from fedmosaic.config.base import Settings


class AdapterSettings(Settings):
    """Set the shape of LoRA and Co-LoRA adapters (paper: r 128, α 256, dropout 0.05, N_B 4)."""

    r: int = Field(default=16, ge=1)
    """Rank of LoRA and Co-LoRA. A client may have its own rank (``clients.<i>.r``)."""

    alpha: float = Field(default=32, gt=0)
    """α of LoRA and Co-LoRA. Updates are scaled by s = α/r.

    s is the same for all clients, so that a product B A has the same meaning at every rank.
    """

    dropout: float = Field(default=0.05, ge=0, lt=1)
    """Probability with which an input feature of an adapter is dropped during training."""

    num_blocks: int = Field(default=4, ge=0)
    """N_B, the number of blocks. The last layer of each block carries Co-LoRA.

    0 puts ordinary LoRA on every layer.
    """

    block_rule: Literal["depth", "even", "cka"] = "depth"
    """Rule that chooses the last layers of blocks.

    ``depth``: the paper's rule of relative depth; the last block takes the layers that remain.
    ``even``: blocks as equal as possible. It differs from ``depth`` only where ``num_blocks`` does
    not divide the number of layers. ``cka``: layers most similar to the pivot's by centred kernel
    alignment; without an alignment, as ``depth``. Leave ``depth`` for the paper's placement.
    """

    gate: Literal["scalar", "input", "none"] = "scalar"
    """Gate β between the local and the global adapter.

    ``scalar``: one β per layer, as in the paper. ``input``: β is computed from the layer's input.
    ``none``: no gate.
    """

    gate_init: float = 0.0
    """β at the start of the run, before the sigmoid. 0 weights both adapters with one half."""

    shared_init: Literal["random", "svd"] = "random"
    """Choice of the frozen A and B of Co-LoRA without an alignment.

    ``random``: random orthonormal matrices. ``svd``: singular vectors of the base weight.
    """

    shared_scale: Literal["unit", "raw"] = "unit"
    """Scale of Co-LoRA's frozen A and B.

    ``unit``: A x has unit RMS, and each column of B has ``b_scale`` times the RMS of W x. Both are
    measured on the public set. Without a public set, as ``raw``. ``raw``: as initialised. Refined A
    and B keep the scale that the refinement gave them.
    """

    b_scale: float = Field(default=1.0, gt=0)
    """Size of B's columns in units of RMS(W x); used with ``shared_scale: unit`` only.

    The product of ``b_scale`` and ``train.lr_shared`` sets how fast P and Q learn. Leave 1 and tune
    ``train.lr_shared``.
    """

    q: bool = True
    """Whether Co-LoRA has Q, as in the paper: ``s B (P A x + Q)``; without it, ``s B P A x``.

    Without Q an exported adapter has no bias, so that vLLM and llama.cpp can serve it and it can be
    merged (``fedmosaic export --for vllm``).
    """

    target_modules: tuple[str, ...] | None = None
    """Roles or names of the modules with adapters. None: attention, MLP and what replaces them.

    A role is the name that a module has in the Llama family (``q_proj``, ``k_proj``, ``v_proj``,
    ``o_proj``, ``gate_proj``, ``up_proj``, ``down_proj``), or ``qkv_proj`` and ``gate_up_proj`` for
    fused projections. A model's own names (``c_attn``, ``fc1``) select its modules too.
    """

    shared_r: int | None = Field(default=None, ge=1)
    """Rank of Co-LoRA on the last layers of blocks. None: ``r``."""

    shared_modules: tuple[str, ...] | tuple[tuple[str, ...], ...] | None = None
    """Roles of the modules that carry Co-LoRA on the last layers of blocks: a list, or one a block.

    None: the target modules that all models of the federation have there. The other target modules
    of these layers carry ordinary LoRA.
    """

    @field_validator("target_modules", "shared_modules")
    @classmethod
    def _not_empty(cls, names: tuple[object, ...] | None) -> tuple[object, ...] | None:
        if names is not None and not any(names):
            raise ValueError(
                "names no module: name one, or leave the setting out for its default; "
                "num_blocks: 0 trains ordinary LoRA only"
            )
        return names

    @property
    def shared_roles(self) -> tuple[tuple[str, ...] | None, tuple[tuple[str, ...], ...]]:
        """Return ``shared_modules`` as one list, and as a list for each block (empty: the same)."""
        chosen = self.shared_modules
        if chosen is None:
            return None, ()
        by_block = tuple(entry for entry in chosen if isinstance(entry, tuple))
        if not by_block:
            return tuple(entry for entry in chosen if isinstance(entry, str)), ()
        return tuple(dict.fromkeys(role for roles in by_block for role in roles)), by_block
