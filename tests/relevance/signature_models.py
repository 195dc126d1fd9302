"""Build tiny models of many families, and differentiate their loss plainly."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.relevance.last_layer import find_signature_layer

TOKENIZER = SimpleNamespace(eos_token_id=0, pad_token_id=0)
SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}


def backbone(family: str = "Llama", **changes: Any) -> Backbone:
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**(SIZES | changes))
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    with torch.no_grad():  # a trained norm is not all ones, nor a trained bias zero
        for name, parameter in model.named_parameters():
            if "norm" in name or "ln_" in name or name.endswith("bias"):
                parameter.add_(0.3 * torch.randn_like(parameter))
    return Backbone(family.lower(), model, TOKENIZER)


def batch(lengths: list[int], answers: list[int], seed: int = 0) -> Batch:
    """Return left-padded rows of given lengths whose last ``answers[i]`` tokens are labelled."""
    width, draw = max(lengths), torch.Generator().manual_seed(seed)
    ids = torch.randint(1, SIZES["vocab_size"], (len(lengths), width), generator=draw)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
        mask[row, width - length :] = 1
        labels[row, width - answer :] = ids[row, width - answer :]
    return Batch(ids * mask, mask, labels)


def by_autograd(shared: Backbone, data: Batch) -> Tensor:
    """Return the whole d x d_ff gradient of the mean cross-entropy over labelled tokens."""
    module: Any = find_signature_layer(shared).module
    module.weight.requires_grad_(True)
    logits = shared.logits(shared.model, data, data.columns(0, data.labels.shape[1]))
    loss = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), data.labels[:, 1:].flatten(), ignore_index=-100
    )
    (grad,) = torch.autograd.grad(loss, module.weight)
    module.weight.requires_grad_(False)
    return grad.T if isinstance(module, Conv1D) else grad


def error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()
