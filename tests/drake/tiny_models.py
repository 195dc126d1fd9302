"""Build a tiny model in place of each that the paper's scenarios name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import LlamaConfig, Qwen2Config

from tests.families.vision_llava import LLAVA, full, llava
from tests.families.vision_parts import clip, siglip

# Layers and width: Llama of three sizes, Qwen of three sizes.
SIZES = {
    "thkim0305/llama3.2_1B_vl": (4, 16),
    "thkim0305/llama3.2_3B_vl": (5, 24),
    "thkim0305/llama3.1_8B_vl": (6, 32),
    "thkim0305/qwen2.5_0.5B_vl": (4, 24),
    "thkim0305/qwen2.5_1.5B_vl": (5, 32),
    "thkim0305/qwen2.5_3B_vl": (6, 40),
}


def build_models(folder: Path) -> dict[str, str]:
    """Write a tiny LLaVA for each model of the paper, and return the folders by its name."""
    folders = {}
    for name, (layers, width) in SIZES.items():
        changes: dict[str, object] = {
            "num_hidden_layers": layers,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
        }
        if "llama" in name:
            family = LLAVA["llava_llama"]
            model = llava(LlamaConfig, clip, text_changes=changes)
        else:
            family = LLAVA["llava_qwen2_siglip"]
            model = llava(Qwen2Config, siglip, text_changes=changes, **full)
        place = folder / name.rpartition("/")[2].replace(".", "-")
        folders[name] = str(replace(family, model=model).save(place))
    return folders
