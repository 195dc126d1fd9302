"""Test pretraining: short runs learn, repeat to the byte, and write folders that load."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoImageProcessor, AutoTokenizer, LlavaForConditionalGeneration

from fedmosaic.errors import ModelError
from fedmosaic.miniature.pretraining import pretrain as recipe
from fedmosaic.miniature.pretraining import skills
from fedmosaic.miniature.pretraining.architectures import ARCHITECTURES, build_model, folder_name
from fedmosaic.miniature.pretraining.batches import ConversationEncoder, answer_logits
from fedmosaic.miniature.pretraining.corpus import VOCABULARY
from fedmosaic.miniature.pretraining.depth_growth import GrowingDecoder, initial_layers
from fedmosaic.miniature.pretraining.pretrain import pretrain
from fedmosaic.miniature.pretraining.tokenizers import build_tokenizer


@pytest.fixture(scope="module")
def small_recipe():
    """Use pools of hundreds of pictures instead of ten thousands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recipe.vision_tower, "TOWER_STEPS", 40)
        patch.setattr(recipe, "POOL_PICTURES", 900)
        patch.setattr(skills, "HELD_OUT_PICTURES", 900)
        yield


@pytest.fixture(scope="module")
def runs(small_recipe, tmp_path_factory) -> list[Path]:
    minutes = 60 / ARCHITECTURES["llama-8x96"].steps_per_minute
    folders = []
    for name in ("one", "two"):
        out = tmp_path_factory.mktemp(name)
        folders += pretrain(
            out, seed=3, names=["llama-8x96"], minutes=minutes, progress=lambda *_: None
        )
    return folders


def test_a_short_run_reduces_the_loss(runs):
    curve = json.loads((runs[0] / "report.json").read_text())["curve"]
    assert curve[-1][0] == 60
    assert curve[-1][1] < 0.75 * curve[0][1]


def test_two_runs_give_the_same_bytes(runs):
    one, two = runs
    assert one.name == two.name == "llama-8x96-3"
    names = sorted(path.name for path in one.iterdir())
    assert {"config.json", "model.safetensors", "tokenizer.json", "report.json"} <= set(names)
    assert names == sorted(path.name for path in two.iterdir())
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_written_model_loads_as_any_model_does(runs):
    model = LlavaForConditionalGeneration.from_pretrained(runs[0], dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(runs[0])
    processor = AutoImageProcessor.from_pretrained(runs[0], backend="pil")
    pixels = processor(torch.zeros(3, 90, 90, dtype=torch.uint8), return_tensors="pt")[
        "pixel_values"
    ]
    assert pixels.shape == (1, 3, 60, 60) and float(pixels.min()) == -1.0
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "<image>" * 9 + "is it red?"}],
        tokenize=False,
        add_generation_prompt=True,
    )
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    out = model.generate(**inputs, pixel_values=pixels, max_new_tokens=3, do_sample=False)
    assert out.shape[1] > inputs["input_ids"].shape[1]


def test_another_seed_starts_elsewhere():
    tokenizer = build_tokenizer("llama", VOCABULARY, ())
    architecture = ARCHITECTURES["llama-8x96"]
    first, same, other = (
        build_model(architecture, tokenizer, seed).lm_head.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, same) and not torch.equal(first, other)
    assert [folder_name("llama-8x96", seed) for seed in (0, 1)] == ["llama-8x96", "llama-8x96-1"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_are_deep_narrow_and_regular(name):
    architecture = ARCHITECTURES[name]
    assert architecture.layers >= 8 and architecture.width <= 128
    assert architecture.width % architecture.heads == 0
    assert (architecture.width // architecture.heads) % 2 == 0  # rotary embeddings work on pairs


@pytest.mark.parametrize("name", ["llama-12x128", "qwen2-10x112"])
def test_growing_changes_nothing_at_first(name):
    architecture = ARCHITECTURES[name]
    tokenizer = build_tokenizer(architecture.family, VOCABULARY, ["a b c"])
    model = build_model(architecture, tokenizer, 0).eval()
    encoder = ConversationEncoder(tokenizer)
    batch = encoder.batch([((0,), (("<image>is it red?", "yes"),)), ((), (("say dax", "dax"),))])
    features = torch.randn(1, 9, 96, generator=torch.Generator().manual_seed(0))
    decoder = GrowingDecoder(model.model.language_model, architecture.initial_depth)
    with torch.no_grad():
        before, _ = answer_logits(model, batch, features, encoder.image_id)
        added = decoder.grow()
        after, _ = answer_logits(model, batch, features, encoder.image_id)
    assert len(model.model.language_model.layers) == architecture.layers
    assert sum(weight.numel() for weight in added) > 0
    torch.testing.assert_close(before, after)


def test_first_trained_layers_are_spread_evenly():
    assert initial_layers(12, 4) == [0, 3, 6, 9]
    assert initial_layers(10, 5) == [0, 2, 4, 6, 8]


def test_unknown_architecture_is_refused_before_training(tmp_path):
    with pytest.raises(ModelError, match="llama-8x96"):
        pretrain(tmp_path, names=["llama-8x69"])
    assert not list(tmp_path.iterdir())
