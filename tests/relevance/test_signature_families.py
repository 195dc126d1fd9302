"""Test the signatures of many families against the plain gradient of the loss."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from signature_models import backbone, batch, by_autograd, error
from torch import nn

from fedmosaic.errors import ModelError
from fedmosaic.relevance import SignatureKind, signature_kind, signature_model
from fedmosaic.relevance.autograd import AutogradSignature

WIDE: dict[str, Any] = {"head_dim": 8}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
MAMBA = {"attn_layer_offset": 0, "attn_layer_period": 2, "mamba_d_state": 4, "mamba_dt_rank": 4}
DELTA: dict[str, Any] = {
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "shared_expert_intermediate_size": 24,
}
LATENT: dict[str, Any] = {
    "num_key_value_heads": 4,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 8,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 0,
}
SHARED_KEYS: dict[str, Any] = {
    "head_dim": 8,
    "hidden_size_per_layer_input": 0,
    "num_hidden_layers": 4,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "num_kv_shared_layers": 2,
}
CLOSED = {
    "Llama": ({}, "mlp.down_proj"),
    "Phi3": ({}, "mlp.down_proj"),
    "Phi": ({}, "mlp.fc2"),
    "StableLm": ({}, "mlp.down_proj"),
    "Starcoder2": ({}, "mlp.c_proj"),
    "Cohere": ({}, "mlp.down_proj"),
    "Cohere2": ({}, "mlp.down_proj"),
    "GPT2": ({}, "mlp.c_proj"),
    "GPTJ": ({"rotary_dim": 4}, "mlp.fc_out"),
    "GPTNeoX": ({}, "mlp.dense_4h_to_h"),
    "Falcon": ({}, "mlp.dense_4h_to_h"),
    "Bloom": ({}, "mlp.dense_4h_to_h"),
    "Mpt": ({}, "ffn.down_proj"),
    "OPT": ({"ffn_dim": 56}, "fc2"),
    "Lfm2": ({}, "feed_forward.w2"),
    "Jamba": (MAMBA | {"num_experts": 1}, "feed_forward.down_proj"),
}
BY_AUTOGRAD = {
    "Gemma2": (WIDE, "mlp.down_proj", "caps its logits"),
    "Gemma3Text": (WIDE, "mlp.down_proj", "differs from Llama's"),
    "Gemma4Text": (SHARED_KEYS, "mlp.down_proj", "differs from Llama's"),
    "Olmo2": ({}, "mlp.down_proj", "differs from Llama's"),
    "Granite": ({"residual_multiplier": 0.5, "logits_scaling": 4.0}, "mlp.down_proj", "differs"),
    "Glm4": (WIDE, "mlp.down_proj", "differs from Llama's"),
    "OPT": ({"word_embed_proj_dim": 16, "do_layer_norm_before": False}, "fc2", "no final norm"),
    "RecurrentGemma": ({}, "mlp_block.down_proj", "caps its logits"),
    "Mixtral": ({}, "self_attn.o_proj", "not from an MLP"),
    "Qwen3Moe": (EXPERTS, "self_attn.o_proj", "not from an MLP"),
    "GptOss": (EXPERTS | WIDE, "self_attn.o_proj", "not from an MLP"),
    "DeepseekV3": (EXPERTS | LATENT, "self_attn.o_proj", "not from an MLP"),
    "Jamba": (MAMBA | EXPERTS, "mamba.out_proj", "not from an MLP"),
    "Qwen3Next": (EXPERTS | DELTA | WIDE, "linear_attn.out_proj", "not from an MLP"),
    "NemotronH": ({"hybrid_override_pattern": "M*E"}, "mixer.shared_experts.down_proj", "not"),
    "Mamba": ({}, "mixer.out_proj", "not from an MLP"),
}


@pytest.mark.parametrize("family", CLOSED)
def test_a_plain_end_has_a_closed_form(family: str) -> None:
    changes, layer = CLOSED[family]
    shared, data = backbone(family, **changes), batch([20, 11], [7, 4])
    model = signature_model(shared, keep=0.4, seed=5)
    assert model.method == "closed form" and model.layer.path.endswith(f".1.{layer}")
    plain = by_autograd(shared, data)
    assert error(model.gradient(data), plain[model.rows].flatten()) < 1e-5
    differentiated = AutogradSignature(shared, keep=1.0).gradient(data)
    assert error(differentiated, plain.flatten()) < 1e-5


@pytest.mark.parametrize("family", BY_AUTOGRAD)
def test_any_other_end_is_differentiated_by_autograd(family: str) -> None:
    changes, layer, reason = BY_AUTOGRAD[family]
    shared, data = backbone(family, **changes), batch([20, 11], [7, 4])
    kind, model = signature_kind(shared), signature_model(shared, keep=0.4, seed=5)
    assert (kind.method, kind.layer) == ("autograd", model.layer.path)
    assert reason in kind.reason
    assert model.method == "autograd" and model.layer.path.endswith(f".{layer}")
    expected = by_autograd(shared, data)[model.rows]
    assert model.size == expected.numel()
    assert error(model.gradient(data), expected.flatten()) < 1e-5


def test_autograd_leaves_the_model_as_it_was_and_works_without_gradients() -> None:
    shared, data = backbone("Gemma2", **WIDE), batch([9, 7], [4, 7])
    model = signature_model(shared)
    expected = model.gradient(data)
    with torch.no_grad():
        found = model.gradient(data)
    assert torch.equal(found, expected) and not found.requires_grad
    assert not any(parameter.requires_grad for parameter in shared.model.parameters())
    assert not any(module._forward_hooks for module in shared.model.modules())


def test_autograd_in_blocks_and_in_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    shared, data = backbone("Gemma2", **WIDE), batch([30, 30], [20, 9])
    whole = signature_model(shared).gradient(data)
    monkeypatch.setattr("fedmosaic.relevance.autograd.LIMIT", 101 * 7)
    assert error(signature_model(shared).gradient(data), whole) < 1e-6
    for dtype in (torch.bfloat16, torch.float16):
        shared.model.to(dtype)
        half = signature_model(shared).gradient(data)
        assert half.dtype == torch.float32
        assert torch.cosine_similarity(half, whole, dim=0) > 0.98


def test_only_labelled_columns_have_logits() -> None:
    """The widest tensor of a step is [n, labelled columns, vocabulary]."""
    shared, data = backbone("Gemma2", **WIDE), batch([40, 30], [5, 3])
    model, widths = signature_model(shared), []
    head: Any = shared.lm_head
    head.register_forward_hook(lambda _, __, output: widths.append(tuple(output.shape)))
    model.gradient(data)
    assert widths == [(2, 5, 101)]


def test_a_model_without_a_linear_layer_at_its_end_gives_no_signature() -> None:
    shared = backbone()
    layer: Any = shared.language_layers[-1]
    for module in (layer.mlp, layer.self_attn):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear):
                setattr(module, name, nn.Identity())
    kind = signature_kind(shared)
    assert kind == SignatureKind("no", "", kind.reason)
    assert kind.reason.startswith("the last layer of llama (LlamaDecoderLayer) has no MLP")
    with pytest.raises(ModelError, match=r"choose another signature model \(relevance\.model\)"):
        signature_model(shared)


def test_a_layer_that_is_not_used_gives_no_signature() -> None:
    shared = backbone()
    layer: Any = shared.language_layers[-1]
    layer.mlp.forward = lambda hidden: hidden
    kind = signature_kind(shared)
    assert kind.method == "no" and "does not call model.layers.1.mlp.down_proj" in kind.reason
