"""Make a language model of the shape of Llama 3.2 1B with random weights, and a scenario for it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from fedmosaic.models.names import BUNDLED

SCENARIO = "llama-1b.yaml"
TEXT = """title: random weights in the shape of Llama 3.2 1B
rounds: 1
data: {{train: 16, test: 8, public: synthetic/text, public_size: 8}}
models: {{dtype: bfloat16}}
train: {{steps: 3, batch_size: 4}}
evaluation: {{items: 8, last_items: 8, batch_size: 8}}
clients:
  - {{name: a, model: {folder}, tasks: [reference/word-kind-0]}}
  - {{name: b, model: {folder}, tasks: [reference/where-latitude-0]}}
"""


def random_llama(folder: Path, **shape: int) -> None:
    """Write a model with a miniature's tokenizer, and a scenario of two clients that use it.

    Args:
        folder: where both are written.
        **shape: fields of the config that are other than those of Llama 3.2 1B.
    """
    config = LlamaConfig(
        **{
            "vocab_size": 128256,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 2048,
            "tie_word_embeddings": True,
            **shape,
        }
    )
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        LlamaForCausalLM(config).save_pretrained(folder / "model")
    finally:
        torch.set_default_dtype(default)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(BUNDLED / "llama-8x96" / name, folder / "model" / name)
    (folder / SCENARIO).write_text(TEXT.format(folder=folder / "model"))
