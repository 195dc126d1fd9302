"""Define how the frozen A and B of different models are aligned on public data."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fedmosaic.config.base import Settings


class RefineSettings(Settings):
    """Set the refinement of A and B on many random pseudo-tasks about the public data.

    See :mod:`fedmosaic.alignment.refinement`.
    """

    questions: int = Field(default=900, ge=1)
    """Number of pseudo-tasks. Time grows with it, memory does not."""

    size: int = Field(default=16, ge=4)
    """Public examples in each pseudo-task. Time grows with it, memory does not."""

    kept: int = Field(default=64, ge=1)
    """Pseudo-tasks whose activations are held in memory, to set strengths and for descent.

    Takes about 6 · tokens · width bytes a site, example and model.
    """

    steps: int = Field(default=0, ge=0)
    """Steps of gradient descent on pseudo-tasks after the closed form. 0: none."""

    batch: int = Field(default=3, ge=1)
    """Pseudo-tasks in one step of gradient descent."""

    tasks: int = Field(default=8, ge=1)
    """Label assignments drawn for each pseudo-task in one step of gradient descent."""

    support: int = Field(default=48, ge=8)
    """Most examples that a pseudo-task is learned from."""

    lr: float = Field(default=1e-2, gt=0)
    """Step size of A and B in gradient descent, relative to their RMS."""

    own: float = Field(default=0.5, ge=0)
    """Weight of a model's own pseudo-tasks beside those that come from another model."""

    ridge: tuple[float, float] = (0.3, 5.0)
    """Range from which the ridge penalty is drawn with which P is learned.

    A large penalty stands for early stopping.
    """

    join: str | None = None
    """Folder with alignments that were refined together, with the same pivot on the same data.

    They stay unchanged, and a model that is not among them is fitted to the pivot's. None: all
    models are refined together.
    """


class AlignmentSettings(Settings):
    """Set how the frozen A and B of different models are aligned on public data (section 3)."""

    method: Literal["gradients", "outputs", "release", "none"] = "gradients"
    """What B is fitted to.

    ``gradients``: gradients at the layers' outputs, from which P learns. ``outputs``: the layers'
    outputs (the paper: CCA). ``release``: the paper's released code, for comparison. ``none``:
    no alignment; every model has its own A and B.
    """

    fit: Literal["ridge", "procrustes", "descent"] = "ridge"
    """How A and B are fitted.

    ``ridge``: ridge regression. ``procrustes``: an orthogonal map. ``descent``: A by the paper's
    gradient descent (for comparison; its time grows with the public data), B by ridge regression
    on gradients.
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

    layers: Literal["depth", "even", "cka"] = "depth"
    """Rule that chooses the last layers of blocks.

    ``depth``: the paper's rule of relative depth. ``even``: blocks of equal size, the same as
    ``depth`` where the blocks divide the layers. ``cka``: layers most similar to the pivot's by
    centred kernel alignment.
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

    rank: int = Field(default=16, ge=1)
    """Rank of A and B. A run takes its adapter's."""

    blocks: int = Field(default=4, ge=0)
    """N_B, the number of blocks. A run takes its adapter's."""

    modules: tuple[str, ...] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Names of the modules with A and B. A run takes its adapter's."""

    batch_size: int = Field(default=16, ge=1)
    """Examples in a batch of the passes over the public data."""

    seed: int = 0
    """Seed of every random draw of the alignment."""

    size: int | None = Field(default=None, ge=1)
    """Number of public examples. None: as many as the federation has (``data.public_size``)."""

    refine: RefineSettings | None = None
    """Functional refinement in place of the closed forms. None: no refinement."""
