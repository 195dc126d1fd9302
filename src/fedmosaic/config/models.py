"""Define how base models are loaded."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fedmosaic.config.base import Settings


class ModelSettings(Settings):
    """Set how base models are loaded (see :class:`fedmosaic.models.loading.ModelOptions`)."""

    device: str = "auto"
    """Torch device, e.g. ``cuda``. ``auto``: a GPU if there is one, else the CPU."""

    dtype: str = "auto"
    """Torch dtype, e.g. ``bfloat16``. ``auto``: chosen by device and model."""

    quantise: Literal["none", "8bit", "4bit"] = "none"
    """Quantisation of the frozen language model: bitsandbytes, 8 bits or NF4.

    Vision tower, projector and head keep ``dtype``. A checkpoint that is stored quantised keeps its
    own quantisation. ``8bit`` and ``4bit`` need an extra: ``pip install -e '.[quantised]'``. They
    are made for CUDA; on a CPU they work, but slowly.
    """

    attn_implementation: str = "auto"
    """Attention implementation of Transformers, e.g. ``eager``, ``sdpa`` or ``flash_attention_2``.

    ``auto``: Transformers' choice.
    """

    device_map: Literal["none", "auto"] = "none"
    """Placement of models larger than one card.

    ``none``: the whole model on ``device``. ``auto``: its layers over all CUDA cards of the
    machine; no part may stay in main memory. Without CUDA it changes nothing.
    """

    trust_remote_code: bool = False
    """Run Python code that comes with a checkpoint, with your rights. Read it first.

    Needed for models that transformers does not know.
    """

    feature_memory: float = Field(default=1.0, ge=0)
    """Most GiB of image features that are kept on a CUDA card.

    The features that were unused for longest make room first. All are kept in a file too. On a CPU
    it changes nothing.
    """

    tower_batch: int = Field(default=8, ge=1)
    """Images that go through a vision tower together.

    It applies to LLaVA models whose images all have one size; the tower of any other model takes
    the images of each example alone. On a CPU, images go together only where their features have
    the same bits as alone, which is tried first. Training looks for new images in all coming steps
    of the round.
    """

    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""

    compile: bool = False
    """Compile decoder layers with ``torch.compile``.

    The first steps take longer. Numbers change in their last digits. It does not go with
    ``quantise``, ``gradient_checkpointing`` and ``device_map: auto``, and needs a C++ compiler.
    """

    @model_validator(mode="after")
    def _compiles(self) -> ModelSettings:
        plain = {"quantise": "none", "gradient_checkpointing": False, "device_map": "none"}
        for name, value in plain.items():
            if self.compile and getattr(self, name) != value:
                raise ValueError(
                    f"compile: true does not go with {name}: {getattr(self, name)}; choose one"
                )
        return self
