"""Test the decoder layers of evaluation against the layers themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from fedmosaic.adapters.inference import merged_weights
from fedmosaic.models import fused_layer
from fedmosaic.models.fused_inputs import asked_at
from fedmosaic.models.fused_layer import FusedLayer, fusable

KINDS = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 64}


def build(kind: str = "llama", key_heads: int = 2, **more: Any) -> Any:
    """Return a random model whose norms and biases are neither zero nor one."""
    torch.manual_seed(5)
    config, model = KINDS[kind]
    heads = {"num_attention_heads": 4, "num_key_value_heads": key_heads}
    ends = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    built: Any = model(config(**SIZES, **heads, **ends, **more)).eval()
    for parameter in built.parameters():
        if parameter.dim() < 2:
            nn.init.normal_(parameter, 1.0, 0.2)
    return built.requires_grad_(False)


def inputs(width: int = 24, padding: int = 3) -> dict[str, Tensor]:
    ids = torch.randint(3, 64, (3, width), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :padding] = 0
    return {"input_ids": ids, "attention_mask": mask}


@contextmanager
def fused(model: Any) -> Iterator[list[FusedLayer]]:
    """Fuse the layers inside; all of them must have been used."""
    with merged_weights(model, fuse=True):
        layers = [layer.__dict__["forward"] for layer in model.model.layers]
        yield layers
        assert all(isinstance(layer, FusedLayer) and layer.products for layer in layers)
    assert not any("forward" in vars(module) for module in model.modules())
    assert not any(layer.shared._stored for layer in layers)


@torch.no_grad()
def logits(model: Any, **given: Any) -> Tensor:
    found: Tensor = model(**given, use_cache=False).logits
    return found


def close(one: Tensor, other: Tensor) -> bool:
    return torch.allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("short", [160, 8], ids=["plain products", "attention of torch"])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("kind", list(KINDS))
def test_numbers_are_those_of_the_layers(
    monkeypatch: pytest.MonkeyPatch, kind: str, key_heads: int, short: int, padding: int
) -> None:
    monkeypatch.setattr(fused_layer, "SHORT", short)
    model, given = build(kind, key_heads), inputs(padding=padding)
    used = given["attention_mask"].bool()
    expected = logits(model, **given)
    with fused(model):
        assert close(logits(model, **given)[used], expected[used])
        assert close(logits(model, **inputs(9, 0)), fresh(model, **inputs(9, 0)))


def fresh(model: Any, **given: Any) -> Tensor:
    """Return logits of the layers themselves, inside a block that replaces them."""
    replaced = [(layer, layer.__dict__.pop("forward")) for layer in model.model.layers]
    try:
        return logits(model, **given)
    finally:
        for layer, forward in replaced:
            layer.forward = forward


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_last_layer_is_computed_where_logits_are_asked_for(kind: str) -> None:
    model, given = build(kind), inputs()
    expected = logits(model, **given)
    columns, flat = torch.tensor([21, 23]), torch.tensor([4, 30, 31, 71])
    with fused(model):
        for _ in range(2):
            with asked_at(columns):
                found = logits(model, **given)
            assert close(found[:, columns], expected[:, columns])
            assert not close(found[:, 20], expected[:, 20])
            with asked_at(flat=flat):
                found = logits(model, **given)
            assert close(found.flatten(0, 1)[flat], expected.flatten(0, 1)[flat])


def test_masks_of_any_pairs_of_tokens_and_positions() -> None:
    model = build()
    given = inputs(padding=0)
    seen = torch.rand(3, 1, 24, 24, generator=torch.Generator().manual_seed(2)) < 0.3
    seen[..., range(24), range(24)] = True
    given |= {"attention_mask": seen, "position_ids": torch.arange(24).flip(0).expand(3, 24)}
    expected = logits(model, **given)
    with fused(model):
        assert close(logits(model, **given), expected)


def test_generated_texts_are_the_same() -> None:
    model, given = build(), inputs()
    settings = GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=2, pad_token_id=0)
    expected = model.generate(**given, generation_config=settings)
    with fused(model):
        logits(model, **given)  # the first pass compares the numbers
        assert torch.equal(model.generate(**given, generation_config=settings), expected)


def test_layers_stay_as_they_are_with_gradients_and_other_dtypes() -> None:
    model, given = build(), inputs()
    with merged_weights(model, fuse=True):
        model(**given).logits.sum()
        assert not any(layer.__dict__["forward"].products for layer in model.model.layers)
    model.to(torch.bfloat16)
    expected = logits(model, **given)
    with merged_weights(model, fuse=True):
        assert torch.equal(logits(model, **given), expected)


def test_which_layers_are_fused() -> None:
    layer = build().model.layers[0]
    assert fusable(layer) and not fusable(layer.self_attn)
    hook = layer.mlp.register_forward_hook(lambda *_: None)
    assert not fusable(layer)
    hook.remove()
    assert fusable(layer)
    windows = {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}
    assert [fusable(one) for one in build("qwen2", **windows).model.layers] == [True, False, False]


@pytest.mark.parametrize(
    "change",
    [
        lambda x, _: x + 1,
        lambda x, _: x[:, 1:],
    ],
    ids=["other numbers", "another shape"],
)
def test_layers_that_compute_something_else_are_run_as_they_are(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor, Any], Tensor]
) -> None:
    model, given = build(), inputs()
    expected = logits(model, **given)
    monkeypatch.setattr(FusedLayer, "_forward", lambda _, x, given: change(x, given))
    with (
        pytest.warns(UserWarning, match="evaluation runs them as they are"),
        merged_weights(model, fuse=True),
    ):
        assert close(logits(model, **given), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with merged_weights(model, fuse=True):
            assert close(logits(model, **given), expected)


def test_layers_beyond_the_memory_stay_as_they_are() -> None:
    model, given = build(), inputs(padding=0)
    expected = logits(model, **given)
    with merged_weights(model, memory=31_000, fuse=True):
        assert close(logits(model, **given), expected)
        made = [layer.__dict__["forward"].products is not None for layer in model.model.layers]
    assert made == [True, False, False]
