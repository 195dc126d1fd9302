"""Test quantised models: what is quantised, and on machines with bitsandbytes that they train."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from checkpoints import language_model
from peft import LoraConfig, get_peft_model
from test_load_options import question
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from transformers.quantizers.quantizers_utils import should_convert_module

from fedmosaic.errors import ModelError
from fedmosaic.models import quantised
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions, load_pretrained, locate
from fedmosaic.models.quantised import quantisation, unquantised_modules
from fedmosaic.models.structure import find_structure
from fedmosaic.training.loss import answer_loss
from tests.families import build

NAME = "miniature/llama-12x128"
FAMILIES = ("llava_next", "qwen2_vl", "qwen3_vl", "idefics3", "internvl", "gemma3", "pixtral")


@pytest.mark.parametrize("family", FAMILIES)
def test_tower_projector_and_head_keep_their_dtype(tmp_path: Path, family: str) -> None:
    config = AutoConfig.from_pretrained(build(family, tmp_path / family))
    skipped = unquantised_modules("m", config, AutoModelForImageTextToText)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    layers = find_structure(model).layers_path
    linear = [path for path, module in model.named_modules() if isinstance(module, nn.Linear)]
    converted = {path for path in linear if should_convert_module(path, skipped)}
    assert converted == {path for path in linear if path.startswith(layers)} and converted


def test_a_language_model_keeps_its_head(tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(language_model(tmp_path / "m", tie_word_embeddings=True))
    skipped = unquantised_modules("m", config, AutoModelForCausalLM)
    assert {"lm_head", "model.embed_tokens"} <= set(skipped)
    assert not [path for path in skipped if "layers" in path]


def test_what_is_passed_to_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda _: object())
    config = AutoConfig.from_pretrained(locate(NAME).place)
    arguments = ("m", ModelOptions(quantise="4bit"), config, AutoModelForImageTextToText)
    made = quantisation(*arguments, torch.float16)["quantization_config"]
    assert made.load_in_4bit and not made.load_in_8bit
    assert made.bnb_4bit_compute_dtype == torch.float16
    assert {"model.vision_tower", "model.multi_modal_projector"} <= {*made.llm_int8_skip_modules}
    config.quantization_config = {"quant_method": "gptq"}
    assert quantisation(*arguments, torch.float16) == {}


def test_mistakes_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "find_spec", lambda _: None)
    with pytest.raises(ModelError, match=r"models\.quantise: 8bit needs bitsandbytes: pip install"):
        load_pretrained(NAME, ModelOptions(device="cpu", quantise="8bit"))


# --- with bitsandbytes, which works on a CPU too -------------------------------------------------
needs_bitsandbytes = pytest.mark.skipif(
    find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@needs_bitsandbytes
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("quantise", "near"), [("8bit", 0.1), ("4bit", 0.4)])
def test_a_quantised_vision_language_model_trains(quantise: str, near: float, dtype: str) -> None:
    options = ModelOptions(device="cpu", quantise=quantise, dtype=dtype)
    plain, backbone = Backbone.load(NAME, ModelOptions(device="cpu")), Backbone.load(NAME, options)
    kinds = {
        type(module).__name__: module.weight.dtype
        for path, module in backbone.model.named_modules()
        if path.endswith("down_proj") and "language" in path
    }
    assert kinds in ({"Linear8bitLt": torch.int8}, {"Linear4bit": torch.uint8})
    own = getattr(torch, dtype)
    model = backbone.model
    assert model.model.multi_modal_projector.linear_1.weight.dtype == own
    assert next(model.model.vision_tower.parameters()).dtype == own and model.dtype == own
    losses = [
        float(answer_loss(one.model, one, one.collate([one.encode(question())])).detach())
        for one in (plain, backbone)
    ]
    assert abs(losses[0] - losses[1]) < near and losses[0] != losses[1]
    adapted = get_peft_model(
        backbone.fork(), LoraConfig(target_modules=["down_proj"], init_lora_weights=False)
    ).train()
    answer_loss(adapted, backbone, backbone.collate([backbone.encode(question())])).backward()
    gradients = [p.grad for p in adapted.parameters() if p.grad is not None]
    assert gradients and all(torch.isfinite(g).all() and g.any() for g in gradients)


@needs_bitsandbytes
@pytest.mark.parametrize("quantise", ["8bit", "4bit"])
def test_forks_of_a_quantised_model_share_its_weights(quantise: str) -> None:
    """Made before the first pass, an 8-bit fork once lost its scales to the base."""
    backbone = Backbone.load(NAME, ModelOptions(device="cpu", quantise=quantise))
    fork, ids = backbone.fork(), torch.arange(2, 20)[None]
    with torch.no_grad():
        base, forked, later = (
            model(input_ids=ids).logits for model in (backbone.model, fork, backbone.fork())
        )
    assert torch.equal(base, forked) and torch.equal(base, later)
    for one, other in zip(backbone.model.modules(), fork.modules(), strict=True):
        if hasattr(one, "init_8bit_state"):
            assert one.state.CB.data_ptr() == other.state.CB.data_ptr()


@needs_bitsandbytes
@pytest.mark.parametrize("name", [NAME, "miniature/llama-8x96"])
def test_gradients_through_four_bits_are_those_of_the_unpacked_weights(name: str) -> None:
    """Also after a pass of the base, for which bitsandbytes once packed the shared weights anew."""
    from bitsandbytes.functional import dequantize_4bit

    backbone = Backbone.load(name, ModelOptions(device="cpu", quantise="4bit"))
    plain = Backbone.load(name, ModelOptions(device="cpu"))
    batch = backbone.collate([backbone.encode(question())])
    with torch.no_grad():
        answer_loss(backbone.model, backbone, batch)
        for one, other in zip(backbone.model.modules(), plain.model.modules(), strict=True):
            if type(one).__name__ == "Linear4bit":
                other.weight.copy_(dequantize_4bit(one.weight.data, one.weight.quant_state))
    found = []
    for each in (backbone, plain):
        torch.manual_seed(0)
        config = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
        adapted = get_peft_model(each.fork(), config).train()
        answer_loss(adapted, each, batch).backward()
        found.append([p.grad for p in adapted.parameters() if p.grad is not None])
    assert found[0]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@needs_bitsandbytes
def test_a_family_of_which_nothing_is_quantised_is_refused(tmp_path: Path) -> None:
    """Falcon's linear layers are of a class of its own."""
    folder = build("falcon", tmp_path / "falcon")
    with pytest.raises(ModelError, match=r"FalconForCausalLM\) has no layers that bitsandbytes"):
        load_pretrained(str(folder), ModelOptions(device="cpu", quantise="4bit"))
