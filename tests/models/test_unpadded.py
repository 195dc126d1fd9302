"""Test that a model gives the same numbers without padding."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from fedmosaic.data.example import Example, Turn
from fedmosaic.models import row_attention as attention
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.row_attention import Examples, attend
from fedmosaic.models.trial import trial_items
from fedmosaic.models.unpadded import row_attention, takes_unpadded, unpadded

LENGTHS = (5, 2, 9, 4)


@pytest.mark.parametrize("key_heads", [4, 2])
@pytest.mark.parametrize("widest", [0, 256])
def test_attention_is_that_of_each_example(
    key_heads: int, widest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By plain products and by torch's attention, with the gradients."""
    monkeypatch.setattr(attention, "WIDEST", widest)
    torch.manual_seed(0)
    heads = (4, key_heads, key_heads)
    taken = [torch.randn(1, h, sum(LENGTHS), 8, requires_grad=True) for h in heads]
    module = torch.nn.Module()
    module.num_key_value_groups = 4 // key_heads  # type: ignore[assignment]
    examples = Examples(LENGTHS, torch.device("cpu"))
    found, _ = attend(module, *taken, None, examples=examples, scaling=0.3)  # type: ignore[arg-type]
    parts = zip(*(x.split(LENGTHS, dim=2) for x in taken), strict=True)
    expected = torch.cat(
        [
            scaled_dot_product_attention(*part, is_causal=True, scale=0.3, enable_gqa=True)
            for part in parts
        ],
        dim=2,
    ).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    wanted = torch.randn_like(found)
    gradients = (torch.autograd.grad((x * wanted).sum(), taken) for x in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_model_that_reads_other_examples_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone.load("miniature/llama-8x96")
    items = trial_items(backbone, images=False)
    assert takes_unpadded(backbone, items)

    def mixing(module: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> Any:
        found = scaled_dot_product_attention(query, key, value, is_causal=True)
        return found.transpose(1, 2), None

    monkeypatch.setattr(attention, "WIDEST", 0)  # or layers do not ask for it
    before = attention.ALL_ATTENTION_FUNCTIONS[attention.NAME]
    attention.ALL_ATTENTION_FUNCTIONS.register(attention.NAME, mixing)
    try:
        backbone = Backbone.load("miniature/llama-8x96")
        with pytest.warns(UserWarning, match="'miniature/llama-8x96' cannot take .* more time"):
            assert not takes_unpadded(backbone, items)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert not takes_unpadded(backbone, items)
    finally:
        attention.ALL_ATTENTION_FUNCTIONS.register(attention.NAME, before)


def test_a_batch_without_padding_has_the_columns_that_are_learned() -> None:
    backbone = Backbone.load("miniature/llama-8x96")
    texts = ("one", "one and two and three", "one and two")
    examples = [Example(text, (Turn("user", text), Turn("assistant", "yes")), ()) for text in texts]
    items = [backbone.encode(example) for example in examples]
    batch = backbone.collate(items)
    row, columns = unpadded(batch, items)
    assert row.input_ids.shape == (1, sum(len(item.input_ids) for item in items))
    assert row.labels[0, columns].tolist() == [
        label for item in items for label in item.labels if label >= 0
    ]
    with torch.no_grad(), row_attention(backbone.model):
        found = backbone.logits(backbone.model, row, columns - 1)[0]
    with torch.no_grad():
        logits = backbone.logits(backbone.model, batch, batch.columns(0, batch.labels.shape[1]))
    expected = logits[:, :-1][batch.labels[:, 1:] >= 0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert backbone.text_config._attn_implementation == "sdpa"


def test_examples_longer_than_a_window_are_padded(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone.load("miniature/llama-8x96")
    items = trial_items(backbone, images=False)
    assert takes_unpadded(backbone, items)
    monkeypatch.setattr(backbone.text_config, "sliding_window", 4, raising=False)
    with pytest.warns(UserWarning, match="attends to fewer tokens than some examples have"):
        assert not takes_unpadded(backbone, items)
    monkeypatch.setattr(backbone.text_config, "sliding_window", 4000)
    assert takes_unpadded(backbone, items)
