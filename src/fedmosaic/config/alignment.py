"""Define how the frozen A and B of different models are aligned on public data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedmosaic.config.base import Settings


class RefineSettings(Settings):
    """Set the refinement of A and B on many random pseudo-tasks about the public data.

    See :mod:`fedmosaic.alignment.refinement`.
    """

    pseudo_tasks: int = Field(default=900, ge=1)
    """Number of pseudo-tasks. Time grows with it, memory does not."""

    size: int = Field(default=16, ge=4)
    """Public examples in each pseudo-task. Time grows with it, memory does not."""

    in_memory: int = Field(default=64, ge=1)
    """Pseudo-tasks whose activations are held in memory, to set the strength of each site.

    Takes about 6 · tokens · width bytes per site, example and model.
    """

    join: str | None = None
    """Folder with alignments that were refined together, with the same pivot on the same data.

    They stay unchanged, and a model that is not among them is fitted to the pivot's. None: all
    models are refined together.
    """


class AlignmentSettings(Settings):
    """Set how the frozen A and B of different models are aligned on public data (section 3)."""

    method: Literal["gradients", "outputs", "release", "none"] = "gradients"
    """Target to which the closed form of alignment fits B.

    ``gradients``: the gradients at the layers' outputs. B is chosen so that P receives the same
    gradients in both models. ``outputs``: the layers' outputs (the paper: CCA). ``release``: the
    paper's released code, for comparison. ``none``: no alignment; every model has its own A and B.
    """

    fit: Literal["ridge", "procrustes"] = "ridge"
    """Method that fits A, and B on gradients.

    ``ridge``: ridge regression. ``procrustes``: an orthogonal map.
    """

    ridge: float = Field(default=1e-3, ge=0)
    """Ridge penalty added to covariances, as a share of their mean diagonal."""

    pivot: str = "smallest"
    """Model that the others are aligned to. ``smallest``: the one with the fewest parameters."""

    pivot_init: Literal["random", "svd", "principal"] = "principal"
    """A and B of the pivot.

    ``random``: random orthonormal matrices. ``svd``: singular vectors of the base weight.
    ``principal``: principal directions of the layer's inputs and output gradients.
    """

    tokens: Literal["all", "answer"] = "all"
    """Matched tokens that are used: ``all``, or only those of the ``answer``."""

    probe: Literal["auto", "words", "likelihood"] = "auto"
    """Function whose output gradients are used.

    ``words``: random directions over answer words. ``likelihood``: log-likelihood of the answers.
    ``auto``: chosen by the data.
    """

    probes: int = Field(default=4, ge=1)
    """Number of random directions for each example."""

    held_out: float = Field(default=0.2, gt=0, lt=1)
    """Share of the public examples that only the alignment's report uses."""

    batch_size: int = Field(default=16, ge=1)
    """Examples in a batch of the passes over the public data."""

    seed: int = 0
    """Seed of every random draw of the alignment."""

    size: int | None = Field(default=None, ge=1)
    """Number of public examples. None: ``data.public_size``.

    The 64 examples that ``data.public_size`` has by default are meant for distillation; an
    alignment is better with more. ``fedmosaic align`` takes 256 by default, and the main benchmark
    takes 1500 for refinement.
    """

    refine: RefineSettings | None = None
    """Fit A and B of all models jointly on pseudo-tasks. None: the closed form alone.

    It takes minutes and is not in the paper. ``refine: {}`` turns it on. Use it together with
    ``train.moment_shared: tensor``.
    """
