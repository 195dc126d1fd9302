"""Test the frozen A and B: orthonormal, seeded, from the SVD, calibrated to the activations."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model

from fedmosaic.adapters import (
    CoLoraConfig,
    CoLoraLinear,
    build_pair,
    calibrate,
    read_state,
    shared_state,
)
from fedmosaic.adapters.subspace import random_pair, svd_pair
from fedmosaic.errors import ConfigError, ModelError


def colora(model) -> list[CoLoraLinear]:
    return [layer for layer in model.modules() if isinstance(layer, CoLoraLinear)]


@pytest.mark.parametrize("shared_init", ["random", "svd"])
def test_orthonormal(base, shared_init: str) -> None:
    model = get_peft_model(base("llama"), CoLoraConfig(r=8, num_blocks=2, shared_init=shared_init))
    for layer in colora(model):
        a, b = layer.shared_colora["frozen_A"], layer.shared_colora["frozen_B"]
        torch.testing.assert_close(a @ a.T, torch.eye(8), rtol=0, atol=1e-5)
        torch.testing.assert_close(b.T @ b, torch.eye(8), rtol=0, atol=1e-5)


def test_drawn_for_seed_layer_and_module() -> None:
    first = random_pair(10, 12, 4, 0, 3, "q_proj")
    assert all(
        torch.equal(x, y)
        for x, y in zip(first, random_pair(10, 12, 4, 0, 3, "q_proj"), strict=True)
    )
    for other in ((1, 3, "q_proj"), (0, 2, "q_proj"), (0, 3, "k_proj")):
        assert not torch.allclose(first[0], random_pair(10, 12, 4, *other)[0])
        assert not torch.allclose(first[1], random_pair(10, 12, 4, *other)[1])


def test_draws_do_not_touch_the_global_generator(base) -> None:
    model = base("llama")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    build_pair(model, CoLoraConfig(r=4, num_blocks=2))
    assert torch.equal(torch.rand(3), expected)


def test_two_clients_of_one_model_and_seed_agree(base) -> None:
    one, two = (
        build_pair(base("llama"), CoLoraConfig(r=4, num_blocks=2, seed=5)) for _ in range(2)
    )
    other = build_pair(base("llama"), CoLoraConfig(r=4, num_blocks=2, seed=6))
    for read in (shared_state, lambda m: read_state(m, "local")):
        assert all(torch.equal(value, read(two)[key]) for key, value in read(one).items())
    assert not any(
        torch.equal(value, shared_state(other)[key]) for key, value in shared_state(one).items()
    )


def test_svd_finds_the_leading_directions() -> None:
    draw = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(9, 3, generator=draw, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(7, 3, generator=draw, dtype=torch.float64))
    weight = u @ torch.diag(torch.tensor([9.0, 4.0, 1.0], dtype=torch.float64)) @ v.T
    a, b = svd_pair(weight, 3)
    torch.testing.assert_close(
        b.T @ weight @ a.T, torch.diag(torch.tensor([9.0, 4.0, 1.0], dtype=torch.float64))
    )
    with pytest.raises(ModelError, match=r"at most 7 .* r is 8"):
        svd_pair(weight, 8)


def test_more_directions_than_outputs_stay_balanced() -> None:
    a, b = random_pair(20, 3, 5, 0, 0, "k_proj")
    torch.testing.assert_close(a @ a.T, torch.eye(5, dtype=torch.float64))
    torch.testing.assert_close(b @ b.T, torch.eye(3, dtype=torch.float64))


def test_calibration_sets_both_scales(base, inputs, family: str) -> None:
    batch = inputs(family)
    model = build_pair(base(family), CoLoraConfig(r=4, num_blocks=2, b_scale=0.7))
    directions = {k: v / v.norm() for k, v in shared_state(model).items()}
    assert calibrate(model, [batch]) == len(colora(model))
    seen: dict[CoLoraLinear, tuple[torch.Tensor, torch.Tensor]] = {}
    for layer in colora(model):
        layer.base_layer.register_forward_hook(
            lambda m, a, y, layer=layer: seen.update({layer: (a[0], y)})
        )
    model(**batch)
    for layer, (x, y) in seen.items():
        y = y if layer.base_layer.bias is None else y - layer.base_layer.bias
        z = x @ layer.shared_colora["frozen_A"].T
        torch.testing.assert_close(
            z.square().mean().sqrt(), torch.tensor(1.0), rtol=1e-4, atol=1e-4
        )
        column = layer.shared_colora["frozen_B"].square().mean(0).sqrt()
        torch.testing.assert_close(
            column, (0.7 * y.square().mean().sqrt()).expand(4), rtol=1e-4, atol=1e-5
        )
    for key, value in shared_state(model).items():
        torch.testing.assert_close(value / value.norm(), directions[key], rtol=1e-4, atol=1e-6)


def test_calibration_streams_ignores_padding_and_adapters_and_repeats(pair, base, inputs) -> None:
    batch = inputs("llama")
    halves = [{k: v[i : i + 1] for k, v in batch.items()} for i in range(2)]
    padded = {k: torch.cat((torch.zeros_like(v[:, :5]), v), dim=1) for k, v in batch.items()}
    plain = build_pair(base("llama"), CoLoraConfig(r=4, num_blocks=2, lora_alpha=8.0))
    calibrate(plain, [batch])
    expected = shared_state(plain)
    for model, batches in (
        (pair("llama"), [batch]),
        (pair("llama").train(), halves),
        (pair("llama"), [padded]),
    ):
        calibrate(model, batches)
        training = model.training
        calibrate(model, batches)
        assert model.training == training and not any(
            layer.disable_adapters for layer in colora(model)
        )
        assert not any(layer.base_layer._forward_hooks for layer in colora(model))
        for key, value in shared_state(model).items():
            torch.testing.assert_close(value, expected[key], rtol=1e-3, atol=1e-5)


def test_calibration_errors(base, inputs) -> None:
    with pytest.raises(ConfigError, match="shared_scale='unit'"):
        calibrate(
            build_pair(base("llama"), CoLoraConfig(r=4, num_blocks=2, shared_scale="raw")),
            [inputs("llama")],
        )
    with pytest.raises(ModelError, match="saw no token"):
        calibrate(build_pair(base("llama"), CoLoraConfig(r=4, num_blocks=2)), [])
    with pytest.raises(ModelError, match="no Co-LoRA layer"):
        calibrate(build_pair(base("llama"), CoLoraConfig(r=4, block_layers=[])), [inputs("llama")])
    dead = base("llama")
    dead.model.layers[2].self_attn.q_proj.weight.data.zero_()
    with pytest.raises(ModelError, match=r"RMS\(W x\) = 0"):
        calibrate(build_pair(dead, CoLoraConfig(r=4, num_blocks=2)), [inputs("llama")])
