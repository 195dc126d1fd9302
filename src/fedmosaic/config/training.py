"""Define local training, its budget and the online memory."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedmosaic.config.base import Settings


class TrainSettings(Settings):
    """Set local training (paper, DRAKE: 100 steps per round, batch 4, AdamW without decay)."""

    steps: int = Field(default=100, ge=1)
    """Local optimiser steps per round. ``algorithms.<name>.steps`` overrides it."""

    batch_size: int = Field(default=4, ge=1)
    """Examples in a training batch."""

    lr: float = Field(default=2e-5, gt=0)
    """Learning rate of LoRA weights, and of R of Fed-SB.

    2e-5 is the paper's for models of 1B and more parameters. Small models need about 1e-3.
    """

    lr_shared: float = Field(default=5e-5, gt=0)
    """Learning rate of Co-LoRA's P and Q. Start at about twice ``lr``.

    Ten times ``lr`` disturbed the models of ``reference/hetero``.
    """

    lr_gate: float | None = Field(default=None, gt=0)
    """Learning rate of the gate β, or of FedALT's mixer. None: ``lr``."""

    moment_shared: Literal["entry", "tensor"] = "entry"
    """Granularity of Adam's second moment for P and Q.

    ``entry``: one moment per entry, as usual. ``tensor``: one per tensor; use it with refined A and
    B (``alignment.refine``), so that P can be transferred from model to model.
    """

    schedule: Literal["constant", "cosine"] = "constant"
    """Learning-rate schedule. ``cosine`` runs once over all rounds of the run."""

    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's weight decay."""

    clip: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient. 0: no limit."""

    packed_weights: bool = True
    """Multiply with frozen weights through oneDNN where that is faster, with the same bits.

    It is faster on AMD processors with AVX-512, for float32. Products of few rows with a small
    weight stay in torch. It needs two more copies of the adapted weights. A model whose copies
    would take more than 1 GiB does without.
    """

    fused_layers: bool = True
    """Compute decoder layers of Llama and Qwen2 in fewer operations, with the same bits.

    It is for float32 on a CPU. Layers of other families, and with gradient checkpointing or
    ``models.compile``, train as they are.
    """

    together: int = Field(default=1, ge=1)
    """Most clients of one architecture and rank that train as one batch, on one base model.

    1: each alone. More is faster. Numbers differ by rounding, which grows with the steps: losses by
    about 1e-6 at first. Clients whose algorithm has a local training of its own, such as Ditto's,
    train one by one all the same.
    """


class BudgetSettings(Settings):
    """Limit what every algorithm may spend.

    ``budget: flops`` is short for ``budget: {kind: flops}``. No budget limits the oracle
    ``pooled``.
    """

    kind: Literal["steps", "flops", "bytes"] = "steps"
    """Quantity that is limited.

    ``steps``: ``train.steps`` local steps per round, or the algorithm's own number
    (``algorithms.<name>.steps``). ``flops``: as many local steps per round as need no more
    operations than ``train.steps`` steps of local training (sft), over all clients. Operations are
    counted before the run; an algorithm's own number of steps is ignored. ``bytes``: fewer
    rounds, so that no client sends and receives more than ``megabytes`` in the whole run. It is
    refused for algorithms whose downloads grow from round to round.
    """

    megabytes: float | None = Field(default=None, gt=0)
    """Most megabytes (10⁶ bytes) that a client sends and receives in the run; ``bytes`` only."""

    @model_validator(mode="after")
    def _limit(self) -> BudgetSettings:
        if (self.kind == "bytes") != (self.megabytes is not None):
            raise ValueError("megabytes belongs to kind: bytes, and that needs it")
        return self


class MemorySettings(Settings):
    """Set the online memory of each client, from which training batches are drawn."""

    size: int | None = Field(default=None, ge=1)
    """Most examples in the memory. None: no limit."""

    temperature: float = Field(default=0.125, gt=0)
    """T in the probability of a draw, ∝ exp(−count/T), where count is how often it was drawn.

    Small: examples that were drawn least come first. Large: all examples are drawn alike.
    """

    decay: float = Field(default=0.99, gt=0, le=1)
    """Factor by which all counts shrink with every draw."""
