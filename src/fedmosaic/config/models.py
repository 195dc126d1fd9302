"""Define how base models are loaded."""

from __future__ import annotations

from typing import Literal

from fedmosaic.config.base import Settings


class ModelSettings(Settings):
    """Set how base models are loaded (see :class:`fedmosaic.models.loading.ModelOptions`)."""

    device: str = "auto"
    """Torch device, e.g. ``cuda``. ``auto``: a GPU if there is one, else the CPU."""

    dtype: str = "auto"
    """Torch dtype, e.g. ``bfloat16``. ``auto``: chosen by device and model."""

    quantise: Literal["none", "8bit", "4bit"] = "none"
    """Quantisation of the frozen base weights.

    ``8bit`` and ``4bit`` need an extra: ``pip install -e '.[quantised]'``.
    """

    trust_remote_code: bool = False
    """Run model code that comes with a checkpoint."""

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
