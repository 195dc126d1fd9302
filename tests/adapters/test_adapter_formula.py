"""Test the passes against the written-out formula in float64: values and every gradient."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from torch import Tensor, nn

from fedmosaic.adapters import (
    CoLoraConfig,
    CoLoraLinear,
    LoraLinear,
    activate,
    adapter_parameters,
    build_pair,
)
from fedmosaic.adapters.functional import CoLoraPass, LoraPass


def naive(
    layer: CoLoraLinear | LoraLinear,
    x: Tensor,
    names: tuple[str, ...],
    gated: bool = True,
) -> Tensor:
    """Return ``W x + b + (1 - g) delta_local + g delta_global``, written out."""

    def delta(name: str) -> Tensor:
        s = layer.colora_scaling[name]
        if isinstance(layer, CoLoraLinear):
            a, b = layer.shared_colora["frozen_A"], layer.shared_colora["frozen_B"]
            return s * ((x @ a.T @ layer.colora_P[name].T + layer.colora_Q[name]) @ b.T)
        return s * (x @ layer.colora_A[name].T @ layer.colora_B[name].T)

    base = nn.functional.linear(x, layer.base_layer.weight, layer.base_layer.bias)
    if not gated or len(names) == 1:
        return base + sum(delta(name) for name in names)
    g = 1 / (1 + torch.exp(-layer.colora_beta["local"]))
    return base + (1 - g) * delta("local") + g * delta("global")


def adapted(model: nn.Module) -> list[CoLoraLinear | LoraLinear]:
    return [layer for layer in model.modules() if isinstance(layer, CoLoraLinear | LoraLinear)]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gate_init", [0.0, -1.0])
@pytest.mark.parametrize("names", [("local",), ("local", "global")])
def test_output_and_gradients_equal_the_naive_formula(
    base, filled, names, gate_init, bias, fused
) -> None:
    model = base("qwen2" if bias else "llama").double()
    config = CoLoraConfig(r=4, lora_alpha=12.0, num_blocks=2, gate_init=gate_init)
    model = build_pair(model, config)
    filled(model)
    activate(model, *names)
    for layer in adapted(model)[:: 1 if not fused else 3]:
        if (
            not fused
        ):  # a hook on the base layer must be honoured, so the pass may not do its matmul
            layer.base_layer.register_forward_hook(lambda *_: None)
        x = torch.randn(2, 5, layer.in_features, dtype=torch.float64, requires_grad=True)
        weights = torch.randn(2, 5, layer.out_features, dtype=torch.float64)
        trained = [
            p
            for name in layer.adapter_layer_names
            for key, p in getattr(layer, name).items()
            if p.requires_grad
        ]
        assert len(trained) == 3
        used = trained if len(names) == 2 else trained[:2]
        ours, theirs = layer(x), naive(layer, x, names)
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
        expected = torch.autograd.grad((theirs * weights).sum(), [x, *used])
        found = torch.autograd.grad((ours * weights).sum(), [x, *used])
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("with_weight", [True, False])
@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("kind", ["colora", "lora"])
def test_gradcheck(kind: str, gated: bool, with_weight: bool) -> None:
    draw = torch.Generator().manual_seed(0)

    def make(*shape: int, grad: bool = False) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).requires_grad_(grad)

    n, d_in, d_out, r = 5, 4, 3, 2
    x, beta = make(n, d_in, grad=True), make(1, grad=True) if gated else None
    weight, bias = (make(d_out, d_in), make(d_out)) if with_weight else (None, None)
    arguments: tuple[object, ...]
    if kind == "colora":
        local = (make(r, r, grad=True), make(r, grad=True))
        received = (make(r, r), make(r)) if gated else (None, None)
        arguments = (x, weight, bias, make(r, d_in), make(d_out, r), *local, *received, beta, 1.7)
        passing = CoLoraPass
    else:
        local = (make(r, d_in, grad=True), make(d_out, r, grad=True))
        received = (make(r + 1, d_in), make(d_out, r + 1)) if gated else (None, None)
        arguments = (x, weight, bias, *local, *received, beta, 1.7, 0.6)
        passing = LoraPass
    assert torch.autograd.gradcheck(passing.apply, arguments)


def test_input_gate_is_one_gate_per_sequence(pair) -> None:
    model = pair("llama", gate="input", gate_init=0.3).double()
    for layer in adapted(model)[::5]:
        x = torch.randn(2, 5, layer.in_features, dtype=torch.float64)
        beta = layer.colora_beta["local"]
        g = torch.sigmoid(beta[0] + (x @ beta[1:]).mean(1))[:, None, None]
        base = layer.base_layer(x)
        local, received = (naive(layer, x, (name,)) - base for name in ("local", "global"))
        torch.testing.assert_close(layer(x), base + (1 - g) * local + g * received)


def test_two_adapters_without_gate_are_added(base, filled) -> None:
    for options, names in (({"gate": "none"}, ("local", "global")), ({}, ("a", "b"))):
        config = CoLoraConfig(r=4, num_blocks=2, **options)
        model = get_peft_model(base("llama"), config, adapter_name=names[0])
        model.add_adapter(names[1], config)
        activate(filled(model, *names).double(), *names)
        assert not any("beta" in name for name, _ in model.named_parameters())
        for layer in adapted(model)[::5]:
            x = torch.randn(3, layer.in_features, dtype=torch.float64)
            plain = naive(layer, x, names, gated=False)
            torch.testing.assert_close(layer(x), plain)


@pytest.mark.parametrize("gate", ["scalar", "input", "none"])
def test_starts_as_exactly_nothing(base, inputs, family: str, gate: str) -> None:
    batch = inputs(family)
    before = base(family)(**batch).logits
    model = build_pair(base(family), CoLoraConfig(r=4, num_blocks=2, gate=gate))
    torch.testing.assert_close(model(**batch).logits, before, rtol=0, atol=1e-6)
    model(**batch).logits.square().sum().backward()
    moved = [
        key
        for key, p in adapter_parameters(model, "local").items()
        if p.grad is not None and bool(p.grad.any())
    ]
    expected = {
        key
        for key in adapter_parameters(model, "local", gates=False)
        if key.rsplit(".", 1)[1] in "PQB"
    }
    assert set(moved) == expected, (
        "at the start P, Q and LoRA's B learn; A and the gate follow once these are not zero"
    )
