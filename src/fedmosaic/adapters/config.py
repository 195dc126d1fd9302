"""Configure the Co-LoRA adapter: a PEFT config that ``save_pretrained`` writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from peft.config import PeftConfig

from fedmosaic.adapters.register import SAVED_NAME, peft_type
from fedmosaic.errors import ConfigError, nearest

CHOICES = {
    "gate": ("scalar", "input", "none"),
    "shared_init": ("random", "svd"),
    "shared_scale": ("unit", "raw"),
}


@dataclass
class CoLoraConfig(PeftConfig):
    """Configure Co-LoRA (FedMosaic, arXiv 2506.11024): ``h = W x + s B (P A x + Q)`` on block ends.

    All other adapted layers carry ordinary LoRA.

    Args:
        r: Rank. P is ``[r, r]`` and Q is ``[r]`` on every Co-LoRA layer of every model, whatever
            the model's width.
        lora_alpha: The scale of both kinds of adapter is ``s = lora_alpha / r``.
        lora_dropout: Dropout on the input of the low-rank branch while training (0: none).
        num_blocks: N_B, the number of blocks the layers are cut into. Co-LoRA sits on the last
            layer of each.
        shared_r: Rank of the Co-LoRA layers (None: ``r``). The scale stays ``lora_alpha / r``.
        shared_modules: Roles of the modules that carry Co-LoRA on block-end layers (None: all
            adapted modules), or a list of roles for each block. The other adapted modules carry
            ordinary LoRA there too.
        block_layers: ``None``: block ends by relative depth (``block_ends``). ``"all"``: Co-LoRA on
            every adapted layer. A list of 0-based layers: Co-LoRA on these (an empty list:
            ordinary LoRA everywhere).
        target_modules: Names of the linear modules to adapt, as in PEFT. ``None``: all linear
            modules of attention, MLP and what replaces attention in the decoder layers. Modules of
            a vision tower or a projector are never adapted.
        exclude_modules: Names (or a regular expression) of modules to leave alone, as in PEFT.
        layers_to_transform: Adapt only these layers, as in PEFT.
        layers_pattern: Name of the layer list, used with ``layers_to_transform``, as in PEFT.
        modules_to_save: Further modules to train and save whole, as in PEFT.
        bias: Biases of the base model that train: ``"none"``, ``"all"`` or ``"colora_only"``.
        gate: How a layer mixes the adapters ``local_name`` and ``global_name`` when exactly these
            two are active: ``(1 - g) local + g global``. ``"scalar"``: ``g = sigmoid(beta)`` with
            one learned beta per layer (the paper). ``"input"``: ``g = sigmoid(beta0 + mean over
            tokens of w . x)`` with a learned ``w`` (the paper's release). ``"none"``: both are
            added without a gate.
        gate_init: beta at the start; 0 gives g = 1/2.
        q: Whether Co-LoRA has Q. Without Q an adapter makes no bias.
        shared_init: The frozen A and B: ``"random"`` orthonormal, or ``"svd"``: the leading
            singular vectors of the base weight (as in LoRA-XS, arXiv 2405.17604, but without the
            singular values, which the scale replaces).
        shared_scale: ``"unit"``: ``calibrate`` scales A so that A x has unit RMS, and B so that its
            columns have ``b_scale`` times the RMS of W x. ``"raw"``: A and B stay orthonormal.
        b_scale: Size of B's columns relative to W x after calibration. The product of b_scale and
            P's learning rate sets the speed of learning.
        local_name: Name of the adapter that trains and owns the gate.
        global_name: Name of the received adapter, which is always frozen.
        seed: Seed of the frozen A and B and of LoRA's A.
        init_weights: ``True``: the adapter changes nothing at the start. ``False``: random weights,
            for tests.
    """

    r: int = field(default=16, metadata={"help": "Rank of P, Q and of the ordinary LoRA layers."})
    lora_alpha: float = field(
        default=32.0, metadata={"help": "Scale of the adapter is lora_alpha / r."}
    )
    lora_dropout: float = field(
        default=0.0, metadata={"help": "Dropout before the low-rank branch while training."}
    )
    num_blocks: int = field(
        default=4,
        metadata={"help": "Number of blocks N_B; Co-LoRA sits on the last layer of each."},
    )
    shared_r: int | None = field(default=None, metadata={"help": "Rank of P and Q; None: r."})
    shared_modules: list[str] | list[list[str]] | None = field(
        default=None,
        metadata={
            "help": "Roles that carry Co-LoRA on block-end layers, for all blocks or for each; "
            "None: all adapted ones."
        },
    )
    block_layers: list[int] | str | None = field(
        default=None,
        metadata={"help": "None: by relative depth; 'all'; or a list of 0-based layers."},
    )
    target_modules: list[str] | set[str] | str | None = field(
        default=None,
        metadata={
            "help": "Names of the linear modules to adapt; None: the language model's projections."
        },
    )
    exclude_modules: list[str] | str | None = field(
        default=None, metadata={"help": "Names of modules to leave alone."}
    )
    layers_to_transform: list[int] | int | None = field(
        default=None, metadata={"help": "Adapt only these layers."}
    )
    layers_pattern: list[str] | str | None = field(
        default=None, metadata={"help": "Name of the layer list."}
    )
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Further modules to train and save whole."}
    )
    bias: str = field(
        default="none", metadata={"help": "Base biases that train: 'none', 'all' or 'colora_only'."}
    )
    gate: str = field(
        default="scalar",
        metadata={"help": "How local and global are mixed: 'scalar', 'input' or 'none'."},
    )
    gate_init: float = field(default=0.0, metadata={"help": "beta at the start; 0 is an even mix."})
    q: bool = field(
        default=True, metadata={"help": "Whether Co-LoRA has Q, which makes a bias s B Q."}
    )
    shared_init: str = field(
        default="random",
        metadata={"help": "Frozen A, B: 'random' orthonormal or 'svd' of the weight."},
    )
    shared_scale: str = field(
        default="unit", metadata={"help": "'unit' (set by calibrate) or 'raw'."}
    )
    b_scale: float = field(
        default=1.0,
        metadata={"help": "RMS of B's columns relative to that of W x after calibration."},
    )
    local_name: str = field(
        default="local", metadata={"help": "Name of the adapter that trains and owns the gate."}
    )
    global_name: str = field(
        default="global", metadata={"help": "Name of the received, frozen adapter."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the frozen A and B and of LoRA's A."})
    init_weights: bool = field(
        default=True, metadata={"help": "False: random instead of zero start, for tests."}
    )

    def __post_init__(self) -> None:
        self.saved = self.peft_version is not None  # a folder's config has it, a new one not yet
        super().__post_init__()
        self.peft_type = peft_type()
        if isinstance(self.target_modules, list):
            self.target_modules = set(self.target_modules)
        if isinstance(self.target_modules, str) and self.layers_to_transform is not None:
            raise ValueError("`layers_to_transform` cannot be used when `target_modules` is a str.")
        if isinstance(self.target_modules, str) and self.layers_pattern is not None:
            raise ValueError("`layers_pattern` cannot be used when `target_modules` is a str.")
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError(
                "When `layers_pattern` is specified, `layers_to_transform` must also be specified."
            )
        if isinstance(self.block_layers, (tuple, set)):
            self.block_layers = sorted(self.block_layers)
        self._check()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as they are saved.

        PEFT knows Co-LoRA only after ``import fedmosaic.adapters``. Otherwise loading fails with
        ``KeyError: <peft_type>``, so the saved type says what to import.
        """
        fields: dict[str, Any] = super().to_dict()
        return {**fields, "peft_type": SAVED_NAME}

    def _check(self) -> None:
        for name, valid in CHOICES.items():
            if getattr(self, name) not in valid:
                raise ConfigError(
                    f"{name} is {getattr(self, name)!r}.{nearest(str(getattr(self, name)), valid)}"
                )
        for name in ("r", "shared_r"):
            rank = getattr(self, name)
            if rank is not None and rank < 1:
                raise ConfigError(f"{name} is {rank}; the rank must be a positive integer.")
        if not 0.0 <= self.lora_dropout < 1.0:
            raise ConfigError(f"lora_dropout is {self.lora_dropout}; it must lie in [0, 1).")
        if isinstance(self.block_layers, str) and self.block_layers != "all":
            raise ConfigError(
                f"block_layers is {self.block_layers!r}; "
                "it must be None, 'all' or a list of layers."
            )
        if self.b_scale <= 0:
            raise ConfigError(f"b_scale is {self.b_scale}; it must be positive.")
        if self.local_name == self.global_name:
            raise ConfigError(
                f"local_name and global_name are both {self.local_name!r}; they must differ."
            )

    def shares(self, role: str, block: int) -> bool:
        """Return whether a module of this role carries Co-LoRA at the end of a block."""
        chosen = self.shared_modules
        if chosen is None:
            return True
        if chosen and isinstance(chosen[0], str):
            return role in chosen
        return block < len(chosen) and role in chosen[block]

    @property
    def shared_rank(self) -> int:
        """Return the rank of the Co-LoRA layers."""
        return self.r if self.shared_r is None else self.shared_r

    @property
    def scaling(self) -> float:
        """Return ``s = lora_alpha / r``."""
        return self.lora_alpha / self.r
