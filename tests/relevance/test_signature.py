"""Test signatures of one model: rows, blocks, padding, precision, adapters and bad input."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from signature_models import backbone, batch, by_autograd, error
from torch import Tensor, nn

from fedmosaic.errors import ConfigError, DataError, ModelError
from fedmosaic.models.backbone import Batch
from fedmosaic.relevance.signature import ema, signature_kind, signature_model


@pytest.mark.parametrize("family", ["Llama", "Qwen2", "Mistral", "Gemma", "Cohere"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "lengths,answers", [([12], [11]), ([40, 25, 7, 3], [1, 9, 3, 2]), ([130, 64], [40, 2])]
)
def test_equals_autograd(family: str, tied: bool, lengths: list[int], answers: list[int]) -> None:
    extra = {"head_dim": 8} if family == "Gemma" else {}
    shared = backbone(family, tie_word_embeddings=tied, **extra)
    data = batch(lengths, answers)
    expected = by_autograd(shared, data)
    full = signature_model(shared, keep=1.0)
    assert error(full.gradient(data), expected.flatten()) < 1e-5
    partial = signature_model(shared, keep=0.4, seed=5)
    assert partial.size == len(partial.rows) * 56 == 13 * 56
    assert error(partial.gradient(data), expected[partial.rows].flatten()) < 1e-5


def test_layer_norm_and_biased_head_equal_autograd() -> None:
    shared = backbone()
    norm, head = nn.LayerNorm(32), nn.Linear(32, 101)
    with torch.no_grad():
        for parameter in (norm.weight, norm.bias, head.bias):
            parameter.add_(torch.randn_like(parameter))
    shared.model.model.norm, shared.model.lm_head = norm, head
    data = batch([20, 11], [7, 4])
    expected = by_autograd(shared, data)
    for keep in (1.0, 0.4):
        model = signature_model(shared, keep=keep)
        assert error(model.gradient(data), expected[model.rows].flatten()) < 1e-5


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = signature_model(backbone()), batch([30, 30], [20, 9])
    whole = model.gradient(data)
    monkeypatch.setattr("fedmosaic.relevance.closed_form.LIMIT", 101 * 7)
    model = signature_model(model.backbone)
    assert model._block == 7
    assert error(model.gradient(data), whole) < 1e-6


def test_half_precision_stays_close() -> None:
    shared, data = backbone(), batch([30, 30], [20, 9])
    expected = signature_model(shared).gradient(data)
    shared.model.to(torch.bfloat16)
    model = signature_model(shared)
    result = model.gradient(data)
    assert result.dtype == torch.float32
    assert torch.cosine_similarity(result, expected, dim=0) > 0.98


def test_padding_and_unlabelled_tokens_do_not_enter() -> None:
    model = signature_model(backbone())
    plain, padded = batch([9], [4]), batch([9], [4])
    padded = Batch(
        torch.nn.functional.pad(plain.input_ids, (6, 0)),
        torch.nn.functional.pad(plain.attention_mask, (6, 0)),
        torch.nn.functional.pad(plain.labels, (6, 0), value=-100),
    )
    assert error(model.gradient(padded), model.gradient(plain)) < 1e-4
    recorded = model.forward(padded)
    assert recorded.hidden.shape == (4, 32) and recorded.activation.shape == (4, 56)


def test_rows_come_from_the_shared_seed() -> None:
    shared = backbone()
    first, second, other = (signature_model(shared, 0.4, seed).rows for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert len(set(first.tolist())) == 13 and not torch.equal(first, torch.arange(13))


def test_leaves_the_model_as_it_was() -> None:
    shared = backbone()
    before = {name: value.clone() for name, value in shared.model.state_dict().items()}
    signature_model(shared).gradient(batch([9], [4]))
    assert all(
        torch.equal(value, before[name]) for name, value in shared.model.state_dict().items()
    )
    assert not any(parameter.requires_grad for parameter in shared.model.parameters())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in shared.model.modules()
    )


def test_active_adapter_is_refused_and_a_disabled_one_changes_nothing() -> None:
    shared, data = backbone(), batch([15], [6])
    expected = signature_model(shared).gradient(data)
    wrapped = get_peft_model(
        shared.model, LoraConfig(target_modules=["down_proj", "q_proj"], init_lora_weights=False)
    )
    with wrapped.disable_adapter():
        assert torch.equal(signature_model(shared).gradient(data), expected)
    with pytest.raises(ModelError, match="active adapter"):
        signature_model(shared)


def test_granite_logit_division_is_covered() -> None:
    shared = backbone("Granite", logits_scaling=4.0)
    data, model = batch([20, 11], [7, 4]), signature_model(shared)
    assert error(model.gradient(data), by_autograd(shared, data)[model.rows].flatten()) < 1e-5


def test_a_model_with_an_unknown_norm_is_differentiated_by_autograd() -> None:
    class HalfNorm(nn.LayerNorm):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) / 2

    shared, data = backbone(), batch([20, 11], [7, 4])
    shared.model.model.norm = HalfNorm(32)
    assert signature_kind(shared).method == "autograd"
    assert "HalfNorm" in signature_kind(shared).reason
    model = signature_model(shared)
    assert error(model.gradient(data), by_autograd(shared, data)[model.rows].flatten()) < 1e-5


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="keep"):
        signature_model(backbone(), keep=0.0)
    with pytest.raises(DataError, match="no labelled token"):
        signature_model(backbone()).gradient(_unlabelled())


def _unlabelled() -> Batch:
    data = batch([9], [4])
    return Batch(data.input_ids, data.attention_mask, torch.full_like(data.labels, -100))


def test_ema() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])
    start = ema(None, a)
    assert torch.equal(start, a) and start is not a
    assert torch.equal(ema(a, b), torch.tensor([2.0, 4.0]))
    assert torch.allclose(ema(a, b, alpha=0.25), torch.tensor([1.5, 3.0]))
    with pytest.raises(ConfigError, match="alpha"):
        ema(a, b, alpha=0.0)
