"""Test exports for servers (one rank, no bias, plain names) and what is refused before writing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from fedmosaic.adapters import CoLoraConfig, build_pair, calibrate, export_lora, export_to_folder
from fedmosaic.adapters.export_check import check_loads
from fedmosaic.adapters.exported import ExportedLora
from fedmosaic.errors import ModelError

MLP = r"model\.layers\.\d\..*\.(gate_proj|up_proj|down_proj|o_proj|q_b_proj)"


def test_one_rank_plain_names_no_bias_and_the_same_logits(
    pair, base, inputs, family: str, tmp_path: Path
) -> None:
    batch = inputs(family)
    model = pair(family, q=False, gate_init=0.4)
    calibrate(model, [batch])
    expected = model(**batch).logits
    folder = export_to_folder(model, tmp_path / "lora", layout="vllm")

    found = ExportedLora.read(folder)
    assert found.server_problems() == [] and not found.bias and found.others == ()
    assert set(found.ranks.values()) == {8} and len(found.ranks) == 7 * 6
    assert found.config["r"] == found.config["lora_alpha"] == 8 == found.max_lora_rank
    assert set(found.config["target_modules"]) == set(found.modules) and len(found.modules) == 7
    prefix = "model.language_model.layers." if "llava" in family else "model.layers."
    assert all(path.startswith(prefix) for path in found.ranks)

    plain = PeftModel.from_pretrained(base(family), folder).eval()
    torch.testing.assert_close(plain(**batch).logits, expected, rtol=1e-5, atol=1e-5)
    adapted = {name for name, _ in plain.named_modules() if name.endswith(".lora_A")}
    assert len(adapted) == len(found.ranks), "PEFT adapts nothing besides, such as the tower"
    merged = plain.merge_and_unload()
    torch.testing.assert_close(merged(**batch).logits, expected, rtol=1e-5, atol=1e-5)


def test_a_bias_is_refused_with_the_way_out(pair, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"bias .* on 14 modules, .*adapter\.q: false"):
        export_to_folder(pair("llama"), tmp_path / "lora", layout="vllm")
    assert list(tmp_path.iterdir()) == []
    untrained = build_pair_of_zeros(pair)  # a Q of zeros makes no bias
    config, state = export_lora(untrained, layout="vllm")
    assert not config.lora_bias and not any(name.endswith("bias") for name in state)


def build_pair_of_zeros(pair) -> PeftModel:
    model = pair("llama")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "colora_Q" in name:
                parameter.zero_()
    return model


def test_pefts_own_lora_of_several_ranks(base, inputs, tmp_path: Path) -> None:
    batch = inputs("llama")
    config = LoraConfig(
        r=3,
        lora_alpha=5,
        target_modules=r"model\.layers\.\d\..*\.(q_proj|down_proj)",
        rank_pattern={"layers.1.self_attn.q_proj": 5},
        alpha_pattern={"layers.2.self_attn.q_proj": 7},
        use_rslora=True,
        init_lora_weights=False,
    )
    model = get_peft_model(base("llama"), config).eval()
    folder = export_to_folder(model, tmp_path / "lora", "default", layout="vllm")
    found = ExportedLora.read(folder)
    assert found.server_problems() == [] and set(found.ranks.values()) == {5}
    plain = PeftModel.from_pretrained(base("llama"), folder).eval()
    torch.testing.assert_close(plain(**batch).logits, model(**batch).logits, rtol=1e-5, atol=1e-5)


def test_what_a_server_cannot_take_is_found_in_the_file(pair, tmp_path: Path) -> None:
    folder = export_to_folder(pair("llama"), tmp_path / "lora")
    problems = " ".join(ExportedLora.read(folder).server_problems())
    assert all(word in problems for word in ("biases", "[4, 8]", "rank_pattern", "plain names"))
    weights = folder / "adapter_model.safetensors"
    save_file({**load_file(weights), "base_model.model.lm_head.weight": torch.ones(2)}, weights)
    assert "it is more than A and B" in ExportedLora.read(folder).server_problems()


def test_a_rank_above_the_highest_of_vllm(pair, tmp_path: Path) -> None:
    options = {"r": 257, "q": False, "target_modules": ["q_proj"], "block_layers": []}
    with pytest.raises(ModelError, match="rank 514 is above 512"):
        export_to_folder(pair("llama", **options), tmp_path / "lora", layout="vllm")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def experts() -> DeepseekV3ForCausalLM:
    """Return a model of which PEFT takes every gate_proj for a projection of all experts."""
    torch.manual_seed(0)
    config = DeepseekV3Config(
        hidden_size=32,
        intermediate_size=48,
        moe_intermediate_size=16,
        num_hidden_layers=2,
        first_k_dense_replace=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        kv_lora_rank=8,
        q_lora_rank=8,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=16,
        vocab_size=64,
    )
    return DeepseekV3ForCausalLM(config).eval()


@pytest.mark.parametrize("layout", ["peft", "vllm"])
def test_what_plain_peft_can_load_of_a_model_with_experts(
    experts, filled, tmp_path: Path, layout
) -> None:
    ids = torch.arange(12).reshape(2, 6)
    config = CoLoraConfig(r=2, num_blocks=1, q=False, target_modules=MLP)
    model = filled(build_pair(copy.deepcopy(experts), config))
    folder = export_to_folder(model, tmp_path / "lora", layout=layout)
    plain = PeftModel.from_pretrained(copy.deepcopy(experts), folder).eval()
    expected = model(input_ids=ids).logits
    assert not torch.allclose(experts(input_ids=ids).logits, expected, atol=1e-2)
    torch.testing.assert_close(plain(input_ids=ids).logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bias", [False, True])
def test_what_plain_peft_would_put_on_other_modules_is_refused(experts, filled, bias) -> None:
    config = CoLoraConfig(r=2, num_blocks=1, q=bias, target_modules=MLP)
    model = filled(build_pair(copy.deepcopy(experts), config))
    exported, state = export_lora(model)
    path = "model.layers.1.mlp.shared_experts"
    for name, (inputs, outputs) in {"gate_proj": (32, 16), "up_proj": (32, 16)}.items():
        exported.target_modules.add(f"{path}.{name}")
        state[f"base_model.model.{path}.{name}.lora_A.weight"] = torch.ones(exported.r, inputs)
        state[f"base_model.model.{path}.{name}.lora_B.weight"] = torch.ones(outputs, exported.r)
    way_out = r"leave .*gate_proj, .*out" + (r", or with adapter\.q: false" if bias else r"\.")
    with pytest.raises(ModelError, match=rf"Plain PEFT cannot load .*{way_out}"):
        check_loads(model, exported, state)


def test_the_check_itself_leaves_the_model_and_finds_missing_tensors(pair, inputs) -> None:
    model = pair("llama")
    before = model(**inputs("llama")).logits
    config, state = export_lora(model)
    assert torch.equal(model(**inputs("llama")).logits, before)
    first = next(iter(state))
    with pytest.raises(ModelError, match="Plain PEFT cannot load"):
        check_loads(model, config, {name: t for name, t in state.items() if name != first})
    with pytest.raises(ModelError, match="Plain PEFT cannot load"):
        check_loads(model, config, {**state, first: state[first][:, :-1]})
