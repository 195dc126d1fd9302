"""Test the fast products with frozen weights: they must have the bits of torch's."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from fedmosaic.adapters import CoLoraConfig
from fedmosaic.adapters.frozen_products import FrozenProducts, pack_frozen_weights
from fedmosaic.adapters.model import build_pair
from fedmosaic.models import exact_product
from fedmosaic.models.exact_product import ExactProduct
from fedmosaic.models.packed import pays
from fedmosaic.training.flops import FlopCounter

needs_gain = pytest.mark.skipif(
    not pays(torch.zeros(1)), reason="products are not faster in oneDNN on this processor"
)


def adapted() -> Any:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=256, intermediate_size=416, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, vocab_size=50,
    )  # fmt: skip
    base = LlamaForCausalLM(config).requires_grad_(False)
    targets = ["q_proj", "o_proj", "up_proj", "down_proj"]
    model = build_pair(base, CoLoraConfig(r=4, num_blocks=1, target_modules=targets))
    for name, parameter in model.named_parameters():
        if "colora" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def gradients(model: Any) -> Tensor:
    tokens = torch.arange(60).reshape(3, 20) % 50
    model(input_ids=tokens, labels=tokens, use_cache=False).loss.backward()
    found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return torch.cat(found)


@needs_gain
@pytest.mark.parametrize("d_in", [64, 192, 256, 382, 384, 416, 576, 1000])
@pytest.mark.parametrize("bias", [False, True])
def test_products_have_the_bits_of_torch(d_in: int, bias: bool) -> None:
    torch.manual_seed(d_in)
    linear = torch.nn.Linear(d_in, 300, bias=bias)
    product = ExactProduct.of(linear.weight, linear.bias)
    assert product is not None
    for rows in (1, 3, 4, 50, 333):
        x = torch.randn(rows, d_in)
        with torch.no_grad():
            expected = torch.nn.functional.linear(x, linear.weight, linear.bias)
            if rows >= exact_product.FEWEST_ROWS or not bias:
                assert torch.equal(product(x), expected)
            torch.testing.assert_close(product(x), expected)


@needs_gain
@pytest.mark.parametrize("d_in,d_out", [(96, 96), (112, 224), (224, 112), (128, 256), (256, 96)])
def test_products_of_small_models_have_the_bits_of_torch(d_in: int, d_out: int) -> None:
    torch.manual_seed(d_in)
    weight = torch.randn(d_out, d_in)
    product = ExactProduct.of(weight)
    assert product is not None
    for rows in range(exact_product.FEWEST_ROWS, 300):
        x = torch.randn(rows, d_in)
        assert torch.equal(product.by_pieces(x), x @ weight.t())
        assert torch.equal(product(x), x @ weight.t())


@needs_gain
def test_little_work_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    product = ExactProduct.of(torch.randn(96, 96))
    assert product is not None
    rows: list[int] = []
    monkeypatch.setattr(product, "by_pieces", lambda x: rows.append(len(x)))
    least = exact_product.LEAST_WORK // 96**2
    product(torch.randn(least - 1, 96))
    product(torch.randn(least, 96))
    assert rows == [least]


@needs_gain
def test_a_shape_with_other_bits_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ExactProduct.of(torch.randn(40, 383)) is None  # MKL cuts odd rows elsewhere
    monkeypatch.setattr(exact_product, "PIECE", 100)
    exact_product._equals_torch.cache_clear()
    assert ExactProduct.of(torch.randn(40, 400)) is None
    exact_product._equals_torch.cache_clear()


@needs_gain
def test_training_has_the_same_gradients_to_the_last_bit() -> None:
    model = adapted()
    expected = gradients(model)
    assert pack_frozen_weights(model) > 0
    with FlopCounter() as packed:
        assert torch.equal(gradients(model), expected)
    for layer in model.modules():
        if hasattr(layer, "frozen_products"):
            assert layer.frozen_products is not None
            layer.frozen_products = None
    with FlopCounter() as plain:
        gradients(model)
    assert packed.total == plain.total


@needs_gain
def test_merging_drops_the_products_with_the_former_weight() -> None:
    model = adapted()
    pack_frozen_weights(model)
    tokens = torch.arange(20)[None]
    model.merge_adapter()
    model.unmerge_adapter()
    layer = next(layer for layer in model.modules() if hasattr(layer, "frozen_products"))
    with torch.no_grad():
        layer.base_layer.weight += 1.0
        changed = model(input_ids=tokens).logits
        assert layer.frozen_products is None
    assert not torch.allclose(changed, adapted()(input_ids=tokens).logits)


@needs_gain
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_of_the_model_has_the_same_gradients(copied: Callable[[Any], Any]) -> None:
    model = adapted()
    assert pack_frozen_weights(model) > 0
    other = copied(model)
    assert not any(getattr(layer, "frozen_products", None) for layer in other.modules())
    assert torch.equal(gradients(other), gradients(model))


def test_small_weights_and_models_above_the_limit_stay_as_they_are() -> None:
    assert FrozenProducts.of(torch.nn.Linear(64, 64)) is None
    model = adapted()
    assert pack_frozen_weights(model, limit=1 << 10) == 0
    assert all(getattr(layer, "frozen_products", None) is None for layer in model.modules())
