"""Test training by few operations: every bit of loss and gradients must be that of the layers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from fedmosaic.adapters import CoLoraConfig
from fedmosaic.adapters import fused_layers as fused_module
from fedmosaic.adapters.frozen_products import pack_frozen_weights
from fedmosaic.adapters.fused_layers import TrainedLayer, fused_layers, in_few_operations
from fedmosaic.adapters.model import build_pair
from fedmosaic.training.flops import FlopCounter

SIZES: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 50,
}  # fmt: skip
TOKENS = torch.arange(60).reshape(3, 20) * 7 % 50
PADDING = torch.ones(3, 20, dtype=torch.int64)
PADDING[0, :6] = PADDING[2, :1] = 0
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


FAMILIES: dict[str, Any] = {
    "llama": (LlamaForCausalLM, LlamaConfig),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config),
}


def adapted(family: str = "llama", targets: list[str] = ALL, **settings: Any) -> Any:
    torch.manual_seed(0)
    kind, config = FAMILIES[family]
    base = kind(config(**SIZES)).requires_grad_(False)
    for name, parameter in base.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=1, std=0.2)
    given = {"r": 4, "num_blocks": 2, "target_modules": targets, **settings}
    model = build_pair(base, CoLoraConfig(**given))
    for name, parameter in model.named_parameters():
        if "colora" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.train()


def fused_during(model: Any) -> AbstractContextManager[None]:
    return in_few_operations(fused_layers(model))


def step(model: Any, fused: bool, embeddings: bool = False) -> dict[str, Tensor]:
    """Return the loss and all gradients of one step."""
    inputs = {"input_ids": TOKENS}
    if embeddings:
        inputs = {"inputs_embeds": model.get_input_embeddings()(TOKENS).requires_grad_()}
    with fused_during(model) if fused else nullcontext():
        loss = model(**inputs, attention_mask=PADDING, labels=TOKENS, use_cache=False).loss
        loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    if embeddings:
        found["embeddings"] = inputs["inputs_embeds"].grad
    model.zero_grad()
    return {"loss": loss.detach(), **found}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[TrainedLayer]:
    """Collect the layers that were computed in few operations."""
    used: list[TrainedLayer] = []
    plain = TrainedLayer._forward

    def forward(self: TrainedLayer, *args: Any) -> Tensor:
        used.append(self)
        return plain(self, *args)

    def trial(layer: Any) -> bool:
        count = len(used)
        found = tried(layer)
        del used[count:]
        return found

    tried = fused_module._computes_alike
    fused_module._known.clear()
    monkeypatch.setattr(fused_module, "_computes_alike", trial)
    monkeypatch.setattr(TrainedLayer, "_forward", forward)
    return used


@pytest.fixture
def unknown() -> Iterator[None]:
    """Let no class of layers have been tried yet."""
    fused_module._known.clear()
    yield
    fused_module._known.clear()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("settings", [{}, {"q": False}, {"gate": "none"}], ids=str)
@pytest.mark.parametrize("embeddings", [False, True])
def test_every_bit_is_that_of_the_layers(
    family: str, settings: dict[str, Any], embeddings: bool, passes: list[TrainedLayer]
) -> None:
    model = adapted(family, **settings)
    if settings.get("gate") == "none":
        model.set_adapter("local")
    expected = step(model, fused=False, embeddings=embeddings)
    assert passes == []
    found = step(model, fused=True, embeddings=embeddings)
    assert len(passes) == SIZES["num_hidden_layers"]
    assert_same(found, expected)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("gate", ["scalar", "none"])
@pytest.mark.parametrize("embeddings", [False, True])
def test_the_same_inputs_are_dropped(
    family: str, gate: str, embeddings: bool, passes: list[TrainedLayer]
) -> None:
    model, found = adapted(family, lora_dropout=0.3, gate=gate), []
    if gate == "none":
        model.set_adapter("local")
    pack_frozen_weights(model)
    for fused in (False, True):
        torch.manual_seed(3)
        found.append(step(model, fused, embeddings))
    assert len(passes) == SIZES["num_hidden_layers"]
    assert_same(found[1], found[0])
    torch.manual_seed(4)
    assert not torch.equal(step(model, True, embeddings)["loss"], found[1]["loss"])


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], ["down_proj"], ["o_proj", "gate_proj"]])
def test_linear_layers_without_adapters_are_fused_too(
    targets: list[str], passes: list[TrainedLayer]
) -> None:
    model = adapted("qwen2", targets=targets)
    expected = step(model, fused=False)
    assert_same(step(model, fused=True), expected)
    assert len(passes) == SIZES["num_hidden_layers"]


def test_the_same_operations_are_counted() -> None:
    model, counts = adapted(), []
    fused_layers(model)  # tries the layers
    for fused in (False, True):
        with FlopCounter() as counter:
            step(model, fused)
        counts.append(counter.total)
    assert counts[0] == counts[1] > 0


def test_layers_are_themselves_after_the_block() -> None:
    model = adapted()
    layers = [module for module in model.modules() if isinstance(module, LlamaDecoderLayer)]
    with pytest.raises(KeyError), fused_during(model):
        assert all(isinstance(vars(layer)["forward"], TrainedLayer) for layer in layers)
        raise KeyError
    assert not any("forward" in vars(layer) for layer in layers)


def recompute(model: Any) -> Any:
    model.get_base_model().gradient_checkpointing_enable({"use_reentrant": False})
    return model


def hook(model: Any) -> Any:
    model.get_base_model().model.layers[0].mlp.register_forward_hook(lambda *_: None)
    model.get_base_model().model.layers[1].register_forward_hook(lambda *_: None)
    model.get_base_model().model.layers[2].self_attn.register_forward_pre_hook(lambda *_: None)
    return model


def train_norms(model: Any) -> Any:
    for name, parameter in model.named_parameters():
        if "layernorm" in name:
            parameter.requires_grad_()
    return model


def drop_attention(model: Any) -> Any:
    for layer in model.get_base_model().model.layers:
        layer.self_attn.attention_dropout = 0.5
    return model


def other_activation(model: Any) -> Any:
    for layer in model.get_base_model().model.layers:
        layer.mlp.act_fn = torch.nn.GELU()
    return model


@pytest.mark.parametrize(
    "change",
    [recompute, hook, train_norms, lambda _: adapted(gate="input"), drop_attention,
     lambda _: adapted("qwen3"), other_activation],
)  # fmt: skip
def test_other_layers_stay_as_they_are(
    change: Callable[[Any], Any], passes: list[TrainedLayer]
) -> None:
    model, found = change(adapted()), []
    for fused in (False, True):
        torch.manual_seed(3)
        found.append(step(model, fused))
    # A hook on the layer itself is not in the way.
    assert {used.layer.self_attn.layer_idx for used in passes} == ({1} if change is hook else set())
    assert_same(found[1], found[0])


def test_inputs_of_other_kinds_use_the_layers(passes: list[TrainedLayer]) -> None:
    model = adapted()
    with fused_during(model):
        with torch.no_grad():
            model(input_ids=TOKENS, use_cache=False)
        with torch.autocast("cpu", torch.bfloat16):
            model(input_ids=TOKENS, use_cache=False)
        model(input_ids=TOKENS, use_cache=True)
        for layer in model.get_base_model().model.layers:  # a hook that comes later
            layer.self_attn.q_proj.register_forward_hook(lambda *_: None)
        model(input_ids=TOKENS, use_cache=False)
        model.double()(input_ids=TOKENS, use_cache=False)
    assert passes == []


def freeze(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if "local" in name and "layers.1" in name:
            parameter.requires_grad_(False)


def change_received(model: Any) -> None:
    for name, parameter in model.named_parameters():
        if ".global" in name:
            parameter.data.mul_(2)


def changing(fused: bool) -> list[dict[str, Tensor]]:
    """Return the steps of a model whose adapters change between them."""
    model, found = adapted(), []
    for layer in model.modules():  # the pass has the scale of the local adapter alone
        if hasattr(layer, "colora_scaling"):
            layer.colora_scaling["global"] *= 3
    with fused_during(model) if fused else nullcontext():
        for change in (
            lambda _: None,
            change_received,
            lambda model: model.set_adapter("local"),
            freeze,
        ):
            change(model)
            found.append(step(model, fused=False))
        model.base_model.disable_adapter_layers()
        found.append({"logits": model(input_ids=TOKENS, use_cache=False).logits})
    return found


def test_a_change_of_adapters_is_followed(passes: list[TrainedLayer]) -> None:
    """The plans of a layer are remembered, and must not outlive what they were made of."""
    found, expected = changing(fused=True), changing(fused=False)
    assert len(passes) == 4 * SIZES["num_hidden_layers"]
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)
    assert not torch.equal(found[0]["loss"], found[1]["loss"])
    assert not torch.equal(found[1]["loss"], found[2]["loss"])
    assert found[3].keys() < found[2].keys()


def test_a_class_that_computes_otherwise_is_left_alone(
    unknown: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(self: Any, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 0.1)

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
    model = adapted()
    with pytest.warns(UserWarning, match="class LlamaDecoderLayer .* training runs them as they"):
        found = step(model, fused=True)
    assert_same(found, step(model, fused=False))
    with warnings.catch_warnings():  # said a single time
        warnings.simplefilter("error")
        step(model, fused=True)
