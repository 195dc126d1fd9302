"""Small checkpoint folders, made from config classes, for tests of loading."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

from fedmosaic.models.loading import locate

MINIATURE = "miniature/llama-8x96"


def language_model(folder: Path, **changes: Any) -> Path:
    """Save a Llama of two layers with the tokenizer of a miniature."""
    torch.manual_seed(0)
    values = {
        "vocab_size": 610, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256,
        "eos_token_id": 1, "pad_token_id": 0,
    } | changes  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**values)).save_pretrained(folder)
    return with_tokenizer(folder)


def vision_model(folder: Path) -> Path:
    """Copy a miniature vision-language model."""
    return Path(shutil.copytree(locate(MINIATURE).place, folder))


def with_tokenizer(folder: Path) -> Path:
    """Copy the tokenizer of a miniature into a folder."""
    for path in Path(locate(MINIATURE).place).iterdir():
        if path.name.startswith("tokenizer") or path.suffix == ".jinja":
            shutil.copy(path, folder)
    return folder


def edit_json(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the content of a JSON file in place."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def edit_weights(path: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    """Change the tensors of a safetensors file in place."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
