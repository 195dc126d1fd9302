"""Test decoder layers that compute a row of examples in few operations."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fedmosaic.models import row_layers
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.row_attention import Examples
from fedmosaic.models.unpadded import row_attention

LENGTHS = (5, 9, 3)


def outputs(backbone: Backbone) -> tuple[torch.Tensor, ...]:
    """Return the last hidden states of a row of examples, and a gradient of what is embedded."""
    model = backbone.model.get_decoder()
    draw = torch.Generator().manual_seed(0)
    size = model.config.hidden_size
    row = torch.randn(1, sum(LENGTHS), size, generator=draw).requires_grad_()
    places = torch.cat([torch.arange(length) for length in LENGTHS])[None]
    with row_attention(backbone.model):
        found = model(
            inputs_embeds=row,
            position_ids=places,
            examples=Examples(LENGTHS, torch.device("cpu")),
            use_cache=False,
        ).last_hidden_state
    wanted = torch.randn(found.shape, generator=draw)
    (gradient,) = torch.autograd.grad((found * wanted).sum(), row)
    return found, gradient


@pytest.mark.parametrize("name", ["miniature/llama-8x96", "miniature/qwen2-10x112"])
def test_layers_give_their_own_numbers(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone.load(name)
    used: list[int] = []
    fast = row_layers._forward

    def noted(layer: Any, *given: Any, **named: Any) -> Any:
        used.append(layer.self_attn.layer_idx)
        return fast(layer, *given, **named)

    monkeypatch.setattr(row_layers, "_forward", noted)
    found = outputs(backbone)
    assert used == list(range(len(backbone.language_layers)))
    monkeypatch.setattr(row_layers, "_is_known", lambda layer: False)
    for one, other in zip(found, outputs(backbone), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
    assert not any("forward" in vars(layer) for layer in backbone.language_layers)


def test_a_layer_that_is_hooked_into_stays_as_it_is() -> None:
    backbone = Backbone.load("miniature/llama-8x96")
    layer: Any = backbone.language_layers[0]
    assert row_layers._is_known(layer)
    for part in (layer.mlp, layer.self_attn, layer.input_layernorm):
        handle = part.register_forward_hook(lambda *_: None)
        assert not row_layers._is_known(layer)
        handle.remove()
    layer.input_layernorm.weight.requires_grad_(True)
    assert not row_layers._is_known(layer)
