"""Test merging in memory and the export to ordinary LoRA, which loads without this library."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from fedmosaic.adapters import CoLoraConfig, activate, calibrate, export_lora, export_to_folder
from fedmosaic.errors import ModelError


@pytest.mark.parametrize("adapter", [("local", "global"), "local", "global"])
def test_exported_lora_gives_the_same_logits(
    pair, base, inputs, family: str, adapter, tmp_path
) -> None:
    batch = inputs(family)
    model = pair(family, gate_init=0.4)
    calibrate(model, [batch])
    activate(model, *([adapter] if isinstance(adapter, str) else adapter))
    expected = model(**batch).logits
    folder = export_to_folder(model, tmp_path / "lora", adapter)
    exported = PeftModel.from_pretrained(base(family), folder).eval()
    assert type(exported.peft_config["default"]) is LoraConfig
    assert not torch.allclose(base(family)(**batch).logits, expected, atol=1e-2)
    torch.testing.assert_close(exported(**batch).logits, expected, rtol=1e-5, atol=2e-5)


def test_exported_folder_loads_without_this_library(pair, inputs, tmp_path) -> None:
    batch = inputs("llava-qwen2")
    model = pair("llava-qwen2")
    expected = model(**batch).logits.detach()
    export_to_folder(model, tmp_path / "lora")
    model.unload().save_pretrained(tmp_path / "base")
    torch.save({"inputs": batch, "expected": expected}, tmp_path / "batch.pt")
    code = """
        import sys, torch, peft
        from transformers import LlavaForConditionalGeneration
        data = torch.load("batch.pt", weights_only=True)
        model = LlavaForConditionalGeneration.from_pretrained("base")
        model = peft.PeftModel.from_pretrained(model, "lora").eval()
        error = float((model(**data["inputs"]).logits - data["expected"]).abs().max())
        assert error < 1e-5, error
        assert not any(name.startswith("fedmosaic") for name in sys.modules)
    """
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], check=True, cwd=tmp_path
    )


def test_ranks_of_the_exported_pair(pair) -> None:
    config, state = export_lora(pair("llama"))
    assert config.lora_bias and config.r == 8 and set(config.rank_pattern.values()) == {4}
    assert config.rank_pattern == config.alpha_pattern
    assert all(".layers.2." in path or ".layers.5." in path for path in config.rank_pattern)
    assert state["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"].shape == (8, 48)
    assert not state["base_model.model.model.layers.0.mlp.down_proj.lora_B.bias"].any()
    assert state["base_model.model.model.layers.2.mlp.down_proj.lora_B.bias"].any()


def test_what_cannot_be_exported(pair, base) -> None:
    with pytest.raises(ModelError, match="gate='input'"):
        export_lora(pair("llama", gate="input"))
    export_lora(pair("llama", gate="input"), "local")
    with pytest.raises(ModelError, match="no adapter 'other'"):
        export_lora(pair("llama"), "other")
    with pytest.raises(ModelError, match="modules_to_save"):
        export_lora(
            get_peft_model(
                base("llama"), CoLoraConfig(r=4, num_blocks=2, modules_to_save=["lm_head"])
            ),
            "default",
        )
    merged = pair("llama")
    merged.merge_adapter()
    with pytest.raises(ModelError, match="unmerge"):
        export_lora(merged)


def test_pefts_own_lora_passes_through(base, inputs, tmp_path) -> None:
    batch = inputs("llama")
    model = get_peft_model(
        base("llama"), LoraConfig(r=3, target_modules=["q_proj"], init_lora_weights=False)
    ).eval()
    folder = export_to_folder(model, tmp_path / "lora", "default")
    reloaded = PeftModel.from_pretrained(base("llama"), folder).eval()
    torch.testing.assert_close(reloaded(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("names", [["local", "global"], ["local"], ["global"]])
def test_merge_and_unmerge(pair, inputs, family: str, names: list[str]) -> None:
    batch = inputs(family)
    model = pair(family, gate_init=0.3)
    activate(model, *names)
    expected = model(**batch).logits
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    model.merge_adapter(safe_merge=True)
    torch.testing.assert_close(model(**batch).logits, expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():  # a gate that moves while merged must not spoil the way back
        for name, parameter in model.named_parameters():
            if "beta" in name:
                parameter.add_(1.0)
                weights[name] += 1.0
    model.unmerge_adapter()
    assert model.state_dict().keys() == weights.keys(), "the bias that merging adds is gone again"
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, weights[key], rtol=1e-5, atol=1e-6)


def test_merge_and_unload_refuses_to_make_biases(pair, base, inputs) -> None:
    batch = inputs("llama")
    model = pair("llama")
    expected = model(**batch).logits
    with pytest.raises(ModelError, match="export_to_folder"):
        model.merge_and_unload()
    merged = model.merge_and_unload(new_bias=True)
    torch.testing.assert_close(merged(**batch).logits, expected, rtol=1e-5, atol=1e-5)
    lora_only = pair("llama", block_layers=[])
    expected = lora_only(**batch).logits
    torch.testing.assert_close(
        lora_only.merge_and_unload()(**batch).logits, expected, rtol=1e-5, atol=1e-5
    )
    with_bias = pair("qwen2", target_modules=["q_proj", "v_proj"])
    expected = with_bias(**batch).logits
    torch.testing.assert_close(
        with_bias.merge_and_unload()(**batch).logits, expected, rtol=1e-5, atol=1e-5
    )


def test_input_gate_cannot_be_merged(pair) -> None:
    with pytest.raises(ModelError, match="depends on the input"):
        pair("llama", gate="input").merge_adapter()


def test_safe_merge_finds_nan_and_touches_nothing(pair) -> None:
    model = pair("llama")
    layer = model.base_model.model.model.layers[2].self_attn.q_proj
    before = layer.base_layer.weight.clone()
    with torch.no_grad():
        layer.colora_Q["local"][0] = float("nan")
    with pytest.raises(ValueError, match="local"):
        layer.merge(safe_merge=True)
    assert torch.equal(layer.base_layer.weight, before) and layer.base_layer.bias is None
