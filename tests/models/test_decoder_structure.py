"""Test that decoder layers, final norm and head are found in models of many families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from torch import nn

from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.structure import find_structure
from tests.tiny_config import SIZES

VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 6,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
FOUND = {
    "Llama": ("model.layers", "model.norm"),
    "Phi": ("model.layers", "model.final_layernorm"),
    "GPT2": ("transformer.h", "transformer.ln_f"),
    "GPTNeoX": ("gpt_neox.layers", "gpt_neox.final_layer_norm"),
    "Falcon": ("transformer.h", "transformer.ln_f"),
    "OPT": ("model.decoder.layers", "model.decoder.final_layer_norm"),
    "Bloom": ("transformer.h", "transformer.ln_f"),
    "Mpt": ("transformer.blocks", "transformer.norm_f"),
    "Lfm2": ("model.layers", "model.embedding_norm"),
    "Jamba": ("model.layers", "model.final_layernorm"),
    "Qwen3Next": ("model.layers", "model.norm"),
    "Qwen3Moe": ("model.layers", "model.norm"),
    "Llama4Text": ("model.layers", "model.norm"),
    "Gemma4Text": ("model.layers", "model.norm"),
    "Mamba": ("backbone.layers", "backbone.norm_f"),
}


def meta(config: Any, auto: Any = transformers.AutoModelForCausalLM) -> Any:
    with torch.device("meta"):
        return auto.from_config(config)


@pytest.mark.parametrize("family", FOUND)
def test_layers_final_norm_and_head_are_found_by_structure(family: str) -> None:
    model = meta(getattr(transformers, f"{family}Config")(**SIZES))
    found = find_structure(model)
    assert (found.layers_path, found.final_norm_path) == FOUND[family]
    assert model.get_submodule(found.layers_path) is found.layers
    assert model.get_submodule(found.final_norm_path) is found.final_norm
    assert found.head is model.lm_head
    assert len(found.layers) == SIZES["num_hidden_layers"]


@pytest.mark.parametrize("vision", ["Clip", "Siglip"])
def test_layers_are_those_of_the_language_model_not_of_the_longer_vision_tower(vision: str) -> None:
    tower = {"Clip": transformers.CLIPVisionConfig, "Siglip": transformers.SiglipVisionConfig}
    text = transformers.Qwen2Config(**SIZES)
    config = transformers.LlavaConfig(vision_config=tower[vision](**VISION), text_config=text)
    found = find_structure(meta(config, transformers.AutoModelForImageTextToText))
    assert found.layers_path == "model.language_model.layers"
    assert found.final_norm_path == "model.language_model.norm"
    assert len(found.layers) == SIZES["num_hidden_layers"]


def test_lists_that_hold_no_decoder_layers_are_passed_over() -> None:
    """As Gemma 3n's lists of projections, and a mixture of more experts than layers."""
    layer = nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(2, 2)) for _ in range(5)]))

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.projections = nn.ModuleList([nn.Linear(2, 2) for _ in range(4)])
            self.blocks = nn.ModuleList([layer, layer])

    class Model(nn.Module):
        config = transformers.PretrainedConfig()

        def __init__(self) -> None:
            super().__init__()
            self.decoder, self.lm_head = Decoder(), nn.Linear(2, 2)

        def get_decoder(self) -> Any:
            return self.decoder

        def get_output_embeddings(self) -> Any:
            return self.lm_head

    found = find_structure(Model())
    assert found.layers_path == "decoder.blocks"
    assert found.final_norm is None
    assert found.final_norm_path == ""


@pytest.mark.parametrize(
    ("config", "auto", "reason"),
    [
        (
            transformers.T5Config(d_model=16, d_ff=16, d_kv=4, num_layers=1, num_heads=2),
            transformers.AutoModelForSeq2SeqLM,
            "'mine'.*encoder-decoder model.*decoder-only",
        ),
        (
            transformers.BartConfig(d_model=16, decoder_layers=1, encoder_layers=1),
            transformers.AutoModelForCausalLM,
            r"'mine'.*cross-attention \(BartDecoderLayer.encoder_attn\)",
        ),
        (
            transformers.GPT2Config(n_embd=16, n_head=2, n_layer=1, add_cross_attention=True),
            transformers.AutoModelForCausalLM,
            "'mine'.*cross-attention",
        ),
        (
            transformers.LlamaConfig(**SIZES),
            transformers.AutoModel,
            "'mine'.*no language-model head",
        ),
    ],
    ids=["t5", "bart", "gpt2", "headless"],
)
def test_a_model_that_cannot_work_is_refused_with_the_reason(
    config: Any, auto: Any, reason: str
) -> None:
    with pytest.raises(ModelError, match=reason):
        find_structure(meta(config, auto), "mine")


def test_a_model_whose_cross_attention_layers_take_the_images_is_refused() -> None:
    text = transformers.models.mllama.MllamaConfig().text_config.to_dict()
    text |= SIZES | {"cross_attention_layers": [1]}
    config = transformers.MllamaConfig(text_config=text, vision_config={"image_size": 28})
    with pytest.raises(ModelError, match=r"CrossAttention.*LLaVA"):
        find_structure(meta(config, transformers.AutoModelForImageTextToText), "mine")


def test_a_backbone_has_the_parts_of_its_model() -> None:
    backbone = Backbone.load("miniature/llama-8x96")
    language = backbone.model.model.language_model
    assert backbone.language_layers is language.layers
    assert backbone.final_norm is language.norm
    assert backbone.lm_head is backbone.model.lm_head
    assert backbone.layers_prefix == "model.language_model.layers"
