"""Run PEFT's ``PeftCommonTester`` on tiny random LLaVA models with Llama and Qwen2 backbones.

Exceptions are tests that merge into layers without bias, where Q would become a bias that the model
class does not have. ``merge_and_unload`` refuses that (tested in ``tests/adapters``). Here merging
runs on ordinary LoRA layers, and on a Qwen2 backbone whose adapted q, k and v have biases.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from loading import peft_test_module
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    Qwen2Config,
)

from fedmosaic.adapters import CoLoraConfig

common = peft_test_module("testing_common")

BACKBONES = {"llama": LlamaConfig, "qwen2": Qwen2Config}
SMALL = {"r": 4, "lora_alpha": 8.0, "num_blocks": 2}
CASES = {
    "default": SMALL,
    "colora": {**SMALL, "block_layers": "all"},
    "lora": {**SMALL, "block_layers": []},
    "svd": {**SMALL, "shared_init": "svd"},
}
MERGING = [
    ("llama", {**SMALL, "lora_alpha": 1.0, "block_layers": []}),
    ("qwen2", {**SMALL, "lora_alpha": 1.0, "target_modules": ["q_proj", "k_proj", "v_proj"]}),
]
TESTS: dict[str, dict[str, object]] = {
    "model_attr": {},
    "adapter_name": {},
    "prepare_for_training": {},
    "load_model_low_cpu_mem_usage": {},
    "save_pretrained": {},
    "save_pretrained_selected_adapters": {},
    "save_pretrained_adapter_name_substring": {},
    "from_pretrained_config_construction": {},
    "load_multiple_adapters": {},
    "add_adapter_no_autocast_adapter_dtype": {"dtype": torch.bfloat16},
    "generate": {},
    "generate_half_prec": {},
    "training": {},
    "inference_safetensors": {},
    "training_layer_indexing": {},
    "training_gradient_checkpointing": {"use_reentrant": False},
    "peft_model_device_map": {},
    "delete_adapter": {},
    "delete_inactive_adapter": {},
    "delete_unknown_adapter_raises": {},
    "unload_adapter": {},
    "disable_adapter": {},
    "adding_multiple_adapters_with_bias_raises": {},
    "get_base_model_state_dict": {},
}
NOT_FROM_ZERO = (
    "save_pretrained",
    "save_pretrained_selected_adapters",
    "load_model_low_cpu_mem_usage",
    "unload_adapter",
    "disable_adapter",
)
MERGE_TESTS = (
    "merge_layers",
    "merge_layers_multi",
    "merge_layers_is_idempotent",
    "merge_layers_nan",
    "safe_merge",
)


def tiny_llava(kind: str) -> LlavaForConditionalGeneration:
    """Return a model of 4 layers, 32 wide, with a 2-layer CLIP tower for 4 x 4 patches."""
    torch.manual_seed(0)
    text = BACKBONES[kind](
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=64,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    vision = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=63, vision_feature_layer=-1
    )
    return LlavaForConditionalGeneration(config).eval()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Save the models and return their folders."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in BACKBONES}
    for kind, folder in folders.items():
        tiny_llava(kind).save_pretrained(folder)
    return {kind: str(Path(folder)) for kind, folder in folders.items()}


class TestLlava(common.PeftCommonTester):
    """Run the checks of the parent class by name."""

    transformers_class = LlavaForConditionalGeneration

    def prepare_inputs_for_testing(self) -> dict[str, torch.Tensor]:
        """Return two sequences with one image of 16 tokens each."""
        ids = torch.tensor([[1, *[63] * 16, 5, 6, 7], [1, *[63] * 16, 8, 9, 10]])
        pixels = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels}

    @pytest.mark.parametrize("config_cls", [CoLoraConfig])
    @pytest.mark.parametrize("case", CASES)
    @pytest.mark.parametrize("kind", BACKBONES)
    @pytest.mark.parametrize("test", TESTS)
    def test_common(
        self, models: dict[str, str], test: str, kind: str, case: str, config_cls: type
    ) -> None:
        options = {**CASES[case], "init_weights": test not in NOT_FROM_ZERO}
        getattr(self, f"_test_{test}")(models[kind], config_cls, options, **TESTS[test])

    @pytest.mark.parametrize("config_cls", [CoLoraConfig])
    @pytest.mark.parametrize(("kind", "options"), MERGING, ids=[kind for kind, _ in MERGING])
    @pytest.mark.parametrize("test", MERGE_TESTS)
    def test_merging(
        self,
        models: dict[str, str],
        test: str,
        kind: str,
        options: dict[str, object],
        config_cls: type,
    ) -> None:
        getattr(self, f"_test_{test}")(models[kind], config_cls, {**options, "init_weights": False})
