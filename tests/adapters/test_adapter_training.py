"""Test training with checkpointing, half precision, dropout and quantised-like base layers."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

from fedmosaic.adapters import CoLoraConfig, CoLoraLinear, adapter_parameters, build_pair, calibrate


def gradients(model, batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    return {key: p.grad.clone() for key, p in adapter_parameters(model, "local").items()}


def similar(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the cosine between two tensors, which half precision should keep near 1."""
    return float(
        torch.nn.functional.cosine_similarity(
            one.detach().float().flatten(), other.detach().float().flatten(), dim=0
        )
    )


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("gate", ["scalar", "input"])
@pytest.mark.parametrize("family", ["llava-llama", "qwen2"])
def test_gradient_checkpointing_gives_the_same_gradients(
    pair, inputs, family: str, gate: str, reentrant: bool
) -> None:
    model, batch = pair(family, gate=gate).train(), inputs(family)
    expected = gradients(model, batch)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    model.enable_input_require_grads()
    for key, value in gradients(model, batch).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-6)


def test_dropout_only_in_training_and_on_the_low_rank_branch(pair, inputs) -> None:
    model, batch = pair("llama", lora_dropout=0.5), inputs("llama")
    assert torch.equal(model(**batch).logits, model(**batch).logits)
    model.train()
    assert not torch.equal(model(**batch).logits, model(**batch).logits)
    for layer in model.modules():
        if isinstance(layer, CoLoraLinear):
            for name in ("local", "global"):
                layer.colora_P[name].data.zero_()
                layer.colora_Q[name].data.zero_()
            x = torch.randn(3, layer.in_features)
            assert torch.equal(layer(x), layer.base_layer(x)), "dropout must not reach W x"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("autocast_adapter", [True, False])
def test_half_precision_base(
    base, inputs, filled, dtype: torch.dtype, autocast_adapter: bool
) -> None:
    batch = inputs("llama")
    config = CoLoraConfig(r=4, num_blocks=2)
    exact = filled(build_pair(base("llama"), config), size=0.1)
    model = get_peft_model(
        base("llama").to(dtype),
        config,
        adapter_name="local",
        autocast_adapter_dtype=autocast_adapter,
    )
    model.add_adapter("global", config, autocast_adapter_dtype=autocast_adapter)
    model.base_model.set_adapter(["local", "global"])
    filled(model, size=0.1)
    expected_dtype = torch.float32 if autocast_adapter else dtype
    assert {p.dtype for p in adapter_parameters(model, "local").values()} == {expected_dtype}
    assert {b.dtype for n, b in model.named_buffers() if "shared_colora" in n} == {expected_dtype}
    logits = model(**batch).logits
    assert logits.dtype == dtype
    assert similar(logits, exact(**batch).logits) > 0.99
    logits.float().square().mean().backward()
    assert all(
        p.grad is not None and p.grad.dtype == p.dtype
        for p in adapter_parameters(model, "local").values()
    )


def test_everything_in_bfloat16_uses_one_pass(pair, inputs) -> None:
    model, batch = pair("llama"), inputs("llama")
    expected = model(**batch).logits
    layer = model.to(torch.bfloat16).base_model.model.model.layers[0].mlp.up_proj
    assert layer.select_path(["local", "global"], torch.bfloat16) == "fused"
    assert similar(model(**batch).logits, expected) > 0.99


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "fused"),
        ({"lora_dropout": 0.5}, "closed form"),
        ({"gate": "none"}, "closed form"),
        ({"gate": "input"}, "reference"),
    ],
)
def test_path_of_a_layer(pair, options, path: str) -> None:
    model = pair("llama", **options).train()
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    assert layer.select_path(["local", "global"], torch.float32) == path
    if path == "fused":
        assert layer.select_path(["local", "global"], None) == "closed form"
        layer.colora_B["global"].requires_grad_(True)
        assert layer.select_path(["local", "global"], torch.float32) == "reference"


def test_autocast(pair, inputs) -> None:
    model, batch = pair("llama"), inputs("llama")
    expected = gradients(model, batch)
    exact = model(**batch).logits
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(**batch).logits
        assert logits.dtype == torch.bfloat16
        found = gradients(model, batch)  # backward under autocast too, as some training loops do
    assert similar(logits, exact) > 0.99
    assert {value.dtype for value in found.values()} == {torch.float32}
    together = (torch.cat([g[key].reshape(-1) for key in expected]) for g in (found, expected))
    assert similar(*together) > 0.97


class Halved(torch.nn.Linear):
    """Stand in for a quantised layer, whose own forward the adapter must call."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * super().forward(x)


def test_base_layers_with_their_own_forward_are_called(base, filled) -> None:
    model = base("llama")
    linear = model.model.layers[5].self_attn.q_proj
    linear.__class__ = Halved
    model = filled(build_pair(model, CoLoraConfig(r=4, num_blocks=2)))
    layer = model.base_model.model.model.layers[5].self_attn.q_proj
    x = torch.randn(2, 3, 32, requires_grad=True)
    delta = layer(x) - layer.base_layer(x)
    layer.base_layer.__class__ = torch.nn.Linear
    torch.testing.assert_close(layer(x) - layer.base_layer(x), delta, rtol=1e-4, atol=1e-5)


def test_hooks_on_the_base_layer_are_called(pair, inputs) -> None:
    model, calls = pair("llama"), []
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    handle = layer.base_layer.register_forward_hook(lambda *_: calls.append(1))
    model(**inputs("llama"))
    handle.remove()
    model(**inputs("llama"))
    assert calls == [1]


def test_training_lowers_the_loss_and_keeps_less_than_lora(pair, inputs) -> None:
    """Train, and save only A x for the backward pass in the closed form, not x."""
    model, batch = pair("llama", block_layers="all").train(), inputs("llama")
    layer = model.base_model.model.model.layers[0].mlp.down_proj
    saved: list[int] = []
    x = torch.randn(5, 7, layer.in_features, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.data_ptr()) or t, lambda t: t
    ):
        layer(x)
    assert x.data_ptr() not in saved
    calibrate(model, [batch])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(20):
        loss = model(**batch, labels=batch["input_ids"]).loss
        losses.append(float(loss))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.97 * losses[0]
