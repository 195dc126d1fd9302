"""Read an exported LoRA folder and tell what is needed to load, serve or merge it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.errors import ModelError

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values of vLLM's ``--max-lora-rank`` (it also knows 1); a LoRA's rank may be lower."""

_FACTOR = re.compile(r"base_model\.model\.(?P<path>.+)\.lora_(?P<factor>A|B)\.weight")


@dataclass(frozen=True)
class ExportedLora:
    """Hold what a LoRA folder contains.

    Attributes:
        folder: the folder.
        config: its ``adapter_config.json``.
        ranks: rank of each adapted module, by its path in the model.
        bias: whether it holds biases.
        others: names of tensors that are neither A, B nor their bias.
    """

    folder: Path
    config: dict[str, Any]
    ranks: dict[str, int]
    bias: bool
    others: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> ExportedLora:
        """Read a folder that PEFT or this library wrote; only names and shapes of its tensors.

        Raises:
            ModelError: it holds no LoRA in PEFT's files.
        """
        from safetensors import SafetensorError, safe_open

        try:
            config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
            with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
                shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, SafetensorError) as error:
            raise ModelError(f"{folder} holds no LoRA adapter of PEFT: {error}") from error
        matches = {name: _FACTOR.fullmatch(name) for name in shapes}
        ranks = {
            m["path"]: int(shapes[n][0]) for n, m in matches.items() if m and m["factor"] == "A"
        }
        biases = {name for name in shapes if name.endswith(".lora_B.bias")}
        others = sorted(name for name, m in matches.items() if not m and name not in biases)
        return cls(folder, config, ranks, bool(biases), tuple(others))

    @property
    def base_model(self) -> str:
        """Return the name or folder of the base model; empty if the folder does not say."""
        return str(self.config.get("base_model_name_or_path") or "")

    @property
    def modules(self) -> tuple[str, ...]:
        """Return the leaf names of the adapted modules, such as ``q_proj``."""
        return tuple(sorted({path.rpartition(".")[2] for path in self.ranks}))

    @property
    def rank(self) -> int:
        """Return the highest rank of a module."""
        return max(self.ranks.values(), default=0)

    @property
    def max_lora_rank(self) -> int | None:
        """Return the lowest ``--max-lora-rank`` with which vLLM takes this rank; None if none."""
        return next((rank for rank in VLLM_RANKS if rank >= self.rank), None)

    def server_problems(self) -> list[str]:
        """List what keeps vLLM and llama.cpp from serving the folder as it is; empty: nothing.

        Both take one rank and ``alpha / r`` for all modules from the config, or would scale
        modules of another rank wrongly, and neither takes a bias. Whether a server supports the
        base model, and LoRA on all its modules, cannot be seen here.
        """
        config, found = self.config, []
        if self.bias or config.get("lora_bias") or config.get("bias", "none") != "none":
            found.append("it has biases")
        if set(self.ranks.values()) - {config.get("r")}:
            found.append(f"its modules have the ranks {sorted(set(self.ranks.values()))}")
        if config.get("rank_pattern") or config.get("alpha_pattern"):
            found.append("its ranks or scales differ between modules (rank_pattern, alpha_pattern)")
        targets = config.get("target_modules")
        if not isinstance(targets, list) or any("." in name for name in targets):
            found.append("its target_modules are not plain names")
        if config.get("use_dora") or config.get("modules_to_save") or self.others:
            found.append("it is more than A and B")
        if self.max_lora_rank is None:
            found.append(f"its rank {self.rank} is above {VLLM_RANKS[-1]}, the highest in vLLM")
        return found
