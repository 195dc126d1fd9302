"""Test the closed form against autograd on the last layers that real models have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from fedmosaic.errors import ConfigError, DataError, ModelError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.relevance.signature import SignatureModel, ema

TOKENIZER = SimpleNamespace(eos_token_id=0, pad_token_id=0)
SIZES: dict[str, Any] = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}


def backbone(family: str = "Llama", **changes: Any) -> Backbone:
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**(SIZES | changes))
    model = getattr(transformers, f"{family}ForCausalLM")(config).eval().requires_grad_(False)
    with torch.no_grad():  # a trained norm is not all ones
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return Backbone(family.lower(), model, TOKENIZER)


def batch(lengths: list[int], answers: list[int], seed: int = 0) -> Batch:
    """Return left-padded rows of given lengths whose last ``answers[i]`` tokens are labelled."""
    width, draw = max(lengths), torch.Generator().manual_seed(seed)
    ids = torch.randint(1, SIZES["vocab_size"], (len(lengths), width), generator=draw)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, (length, answer) in enumerate(zip(lengths, answers, strict=True)):
        mask[row, width - length :] = 1
        labels[row, width - answer :] = ids[row, width - answer :]
    return Batch(ids * mask, mask, labels)


def by_autograd(shared: Backbone, data: Batch) -> Tensor:
    """Return the whole d x d_ff gradient of the mean cross-entropy over labelled tokens."""
    weight = shared.language_layers[-1].mlp.down_proj.weight
    weight.requires_grad_(True)
    logits = shared.model(**data.inputs).logits
    loss = nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), data.labels[:, 1:].flatten(), ignore_index=-100
    )
    (grad,) = torch.autograd.grad(loss, weight)
    weight.requires_grad_(False)
    return grad


def error(ours: Tensor, theirs: Tensor) -> float:
    return ((ours - theirs).norm() / theirs.norm()).item()


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
    full = SignatureModel(shared, keep=1.0)
    assert error(full.gradient(data), expected.flatten()) < 1e-5
    partial = SignatureModel(shared, keep=0.4, seed=5)
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
        model = SignatureModel(shared, keep=keep)
        assert error(model.gradient(data), expected[model.rows].flatten()) < 1e-5


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = SignatureModel(backbone()), batch([30, 30], [20, 9])
    whole = model.gradient(data)
    monkeypatch.setattr("fedmosaic.relevance.signature.LIMIT", 101 * 7)
    model = SignatureModel(model.backbone)
    assert model._block == 7
    assert error(model.gradient(data), whole) < 1e-6


def test_half_precision_stays_close() -> None:
    shared, data = backbone(), batch([30, 30], [20, 9])
    expected = SignatureModel(shared).gradient(data)
    shared.model.to(torch.bfloat16)
    model = SignatureModel(shared)
    result = model.gradient(data)
    assert result.dtype == torch.float32
    assert torch.cosine_similarity(result, expected, dim=0) > 0.98


def test_padding_and_unlabelled_tokens_do_not_enter() -> None:
    model = SignatureModel(backbone())
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
    first, second, other = (SignatureModel(shared, 0.4, seed).rows for seed in (1, 1, 2))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert len(set(first.tolist())) == 13 and not torch.equal(first, torch.arange(13))


def test_leaves_the_model_as_it_was() -> None:
    shared = backbone()
    before = {name: value.clone() for name, value in shared.model.state_dict().items()}
    SignatureModel(shared).gradient(batch([9], [4]))
    assert all(
        torch.equal(value, before[name]) for name, value in shared.model.state_dict().items()
    )
    assert not any(parameter.requires_grad for parameter in shared.model.parameters())
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in shared.model.modules()
    )


def test_active_adapter_is_refused_and_a_disabled_one_changes_nothing() -> None:
    shared, data = backbone(), batch([15], [6])
    expected = SignatureModel(shared).gradient(data)
    wrapped = get_peft_model(
        shared.model, LoraConfig(target_modules=["down_proj", "q_proj"], init_lora_weights=False)
    )
    with wrapped.disable_adapter():
        assert torch.equal(SignatureModel(shared).gradient(data), expected)
    with pytest.raises(ModelError, match="active adapter"):
        SignatureModel(shared)


@pytest.mark.parametrize(
    "family,changes,message",
    [
        ("Gemma2", {"head_dim": 8}, "caps its logits"),
        ("Gemma2", {"head_dim": 8, "final_logit_softcapping": None}, "does not hold"),
        ("Granite", {"residual_multiplier": 0.5}, "does not hold"),
        ("Starcoder2", {}, "no linear mlp.down_proj"),
    ],
)
def test_unsupported_last_layers_are_refused(
    family: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        SignatureModel(backbone(family, **changes))


def test_granite_logit_division_is_covered() -> None:
    shared = backbone("Granite", logits_scaling=4.0)
    data, model = batch([20, 11], [7, 4]), SignatureModel(shared)
    assert error(model.gradient(data), by_autograd(shared, data)[model.rows].flatten()) < 1e-5


def test_unknown_norm_is_named() -> None:
    class HalfNorm(nn.LayerNorm):
        def forward(self, input: Tensor) -> Tensor:
            return super().forward(input) / 2

    shared = backbone()
    shared.model.model.norm = HalfNorm(32)
    with pytest.raises(ModelError, match="HalfNorm"):
        SignatureModel(shared)


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="keep"):
        SignatureModel(backbone(), keep=0.0)
    with pytest.raises(DataError, match="no labelled token"):
        SignatureModel(backbone()).gradient(_unlabelled())


def _unlabelled() -> Batch:
    data = batch([9], [4])
    return Batch(data.input_ids, data.attention_mask, torch.full_like(data.labels, -100), None)


def test_ema() -> None:
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 6.0])
    start = ema(None, a)
    assert torch.equal(start, a) and start is not a
    assert torch.equal(ema(a, b), torch.tensor([2.0, 4.0]))
    assert torch.allclose(ema(a, b, alpha=0.25), torch.tensor([1.5, 3.0]))
    with pytest.raises(ConfigError, match="alpha"):
        ema(a, b, alpha=0.0)
