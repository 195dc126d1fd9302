"""Test that compiled decoder layers give the same numbers, for batches of any length.

The compiler here only traces: it takes seconds, and torch's own takes minutes.
"""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch._dynamo.utils import counters
from transformers import LlamaConfig, LlamaForCausalLM

from fedmosaic.adapters import CoLoraConfig, build_pair
from fedmosaic.config import ModelSettings
from fedmosaic.errors import ModelError
from fedmosaic.models.compiling import compile_layers
from tiny_config import SIZES


def step(model: Any, tokens: int, examples: int) -> tuple[Tensor, Tensor]:
    """Return loss and gradient of a step."""
    ids = torch.arange(examples * tokens).reshape(examples, tokens) % SIZES["vocab_size"]
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.detach(), torch.cat(gradients)


def test_compiled_layers_train_alike_and_never_again_for_another_length() -> None:
    torch.manual_seed(0)
    config = CoLoraConfig(r=4, block_layers="all", target_modules=["q_proj", "down_proj"])
    model: Any = build_pair(LlamaForCausalLM(LlamaConfig(**SIZES)), config).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    names = list(model.state_dict())
    shapes = [(5, 2), (9, 3), (6, 2)]
    expected = [step(model, *shape) for shape in shapes]
    compile_layers("tiny", model.get_base_model().model.layers, backend="aot_eager")
    counters.clear()
    for number, (shape, (loss, gradient)) in enumerate(zip(shapes, expected, strict=True)):
        found = step(model, *shape)
        assert torch.allclose(found[0], loss, atol=1e-6)
        assert torch.allclose(found[1], gradient, atol=1e-6)
        if number == 0:
            graphs = counters["stats"]["unique_graphs"]
    assert counters["stats"]["unique_graphs"] == graphs
    assert not counters["graph_break"]
    assert list(model.state_dict()) == names


@pytest.mark.parametrize(
    "other", [{"quantise": "4bit"}, {"gradient_checkpointing": True}, {"device_map": "auto"}]
)
def test_what_cannot_be_compiled_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="compile: true does not go with"):
        ModelSettings(compile=True, **other)


def test_a_compiler_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ModelError, match=r"models\.compile: true needs a C\+\+ compiler"):
        compile_layers("tiny", [])
