"""Test a backbone against the model's own forward pass; test labels, padding, forks and names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmosaic.adapters import read_state
from fedmosaic.algorithms.common.lora import build_lora
from fedmosaic.config import AdapterSettings
from fedmosaic.data import Example, Image, Turn
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE
from fedmosaic.models.loading import ModelOptions, bundled_names, locate, resolve_dtype
from fedmosaic.training.loss import answer_logits

MODELS = ["miniature/llama-8x96", "miniature/qwen2-10x112"]


def picture(seed: int) -> Image:
    return Image(np.random.default_rng(seed).integers(0, 255, (60, 60, 3), dtype=np.uint8))


def example(
    question: str = "what colour? Options: red, blue", answer: str = "red", images: int = 1
) -> Example:
    marks = "<image>" * images
    return Example(
        "e",
        (Turn("user", f"{marks} {question}"), Turn("assistant", answer)),
        tuple(map(picture, range(images))),
    )


@pytest.fixture(scope="module", params=MODELS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return Backbone.load(request.param)


def test_embeddings_give_the_logits_of_the_models_own_forward(backbone: Backbone) -> None:
    batch = backbone.collate([backbone.encode(example(images=2))])
    pictures = [picture(0).load(), picture(1).load()]
    pixels = backbone.processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        theirs = backbone.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, pixel_values=pixels
        ).logits
        ours = backbone.model(**batch.inputs).logits
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_labels_are_the_answer_and_its_end(backbone: Backbone) -> None:
    encoded = backbone.encode(example(answer="blue"))
    labelled = [token for token in encoded.labels if token != IGNORE]
    assert backbone.tokenizer.decode(labelled[:-1]).strip() == "blue"
    assert labelled[-1] == backbone.tokenizer.eos_token_id
    assert backbone.answer_ids("blue") == labelled[:-1]
    prompt = backbone.encode(example(answer="blue"), answer=False)
    assert encoded.input_ids[: len(prompt.input_ids)] == prompt.input_ids
    assert all(label == IGNORE for label in prompt.labels)


def test_every_assistant_turn_is_learned(backbone: Backbone) -> None:
    turns = (
        Turn("user", "red?"),
        Turn("assistant", "yes"),
        Turn("user", "blue?"),
        Turn("assistant", "no"),
    )
    encoded = backbone.encode(Example("m", turns))
    text = backbone.tokenizer.decode(
        [token for token in encoded.labels if token != IGNORE], skip_special_tokens=True
    )
    assert text.split() == ["yes", "no"] or text.replace(" ", "") == "yesno"


def test_padding_does_not_change_an_answer(backbone: Backbone) -> None:
    short, long = (
        example(images=1),
        example("which is bigger? Options: first, second, third, fourth", "first", images=3),
    )
    single = backbone.collate([backbone.encode(short)])
    both = backbone.collate([backbone.encode(short), backbone.encode(long)])
    with torch.no_grad():
        one = backbone.model(**single.inputs).logits[0, -3:]
        two = backbone.model(**both.inputs).logits[0, -3:]
    assert torch.allclose(one, two, atol=1e-4)
    assert both.labels[0, -1] == backbone.tokenizer.eos_token_id
    assert both.answer_width == int((both.labels != IGNORE).sum(1).max())


def test_selected_columns_go_through_the_head_at_once(backbone: Backbone) -> None:
    """Multiply the head with all columns at once; with a large vocabulary one by one is slow."""
    items = [example(images=0), example(images=0, question="what?", answer="blue or green")]
    batch = backbone.collate([backbone.encode(item) for item in items])
    width, length = batch.answer_width, batch.labels.shape[1]
    seen: list[torch.Tensor] = []
    handle = backbone.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        whole = backbone.model(**batch.inputs).logits
        selected, labels = answer_logits(backbone.model, backbone, batch)
    handle.remove()
    assert seen[1].shape[:2] == (2, width) and seen[1].is_contiguous()
    assert torch.allclose(selected, whole[:, length - width - 1 : -1], atol=1e-5)
    assert torch.equal(labels, batch.labels[:, -width:])


def test_attention_is_fused_by_default(backbone: Backbone) -> None:
    assert backbone.model.config.get_text_config()._attn_implementation == "sdpa"


def test_a_fork_shares_the_weights_and_leaves_the_base_bare(backbone: Backbone) -> None:
    from peft import LoraConfig, get_peft_model

    fork = backbone.fork()
    assert all(
        a.data_ptr() == b.data_ptr()
        for a, b in zip(fork.parameters(), backbone.model.parameters(), strict=True)
    )
    get_peft_model(fork, LoraConfig(target_modules=["q_proj"]))
    assert any("lora" in name for name, _ in fork.named_parameters())
    assert not any("lora" in name for name, _ in backbone.model.named_parameters())


def test_the_tower_computes_an_image_once(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = backbone.images
    assert images is not None
    computed: list[int] = []
    real = images._compute
    monkeypatch.setattr(images, "_compute", lambda *args: (computed.append(1), real(*args))[1])
    units = [(picture(seed),) for seed in (100, 101, 100)]
    first, second = (images.outputs(units, backbone.device)["image"].pooler_output for _ in "ab")
    assert sum(computed) in (0, 2)  # 0: a model with an equal tower has computed them already
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
    assert torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])


def test_two_models_with_one_tower_share_its_cache() -> None:
    one, two = (Backbone.load(name) for name in MODELS)
    assert one.images is not None and two.images is not None
    assert one.images.cache is two.images.cache


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Did you mean 'miniature/llama-8x96'"):
        locate("miniature/llama-8x69")
    with pytest.raises(ModelError, match=r"holds no config\.json"):
        locate(str(tmp_path))
    with pytest.raises(ModelError, match=r"neither a folder .* nor a Hugging Face id"):
        locate("/no/such/folder")
    with pytest.raises(ModelError, match=re.escape(f"(here: {Path.cwd() / 'my-model'})")):
        locate("my-model")
    with pytest.raises(ModelError, match="does not exist"):
        locate("missing.gguf")
    with pytest.raises(ModelError, match="hf download nobody/nothing"):
        Backbone.load("nobody/nothing-of-this-name")
    with pytest.raises(ModelError, match="quantise"):
        Backbone.load(MODELS[0], ModelOptions(quantise="2bit"))
    with pytest.raises(ModelError, match="dtype 'float31'"):
        resolve_dtype("float31", torch.device("cpu"), "x")


def test_too_long_an_example_is_named() -> None:
    backbone = Backbone.load(MODELS[0])
    with pytest.raises(DataError, match=r"example 'e' has \d+ tokens"):
        backbone.encode(example("red " * 5000))


def test_a_token_without_an_embedding_is_named() -> None:
    """Published tokenizers hold special tokens beyond the embedding, which a text may spell."""
    backbone = Backbone.load(MODELS[0])
    backbone.tokenizer.add_special_tokens({"additional_special_tokens": ["<soft>"]})
    rows = backbone.model.get_input_embeddings().weight.shape[0]
    assert backbone.tokenizer.convert_tokens_to_ids("<soft>") >= rows
    with pytest.raises(DataError, match=rf"example 'e' holds the token {rows}"):
        backbone.encode(example("what is <soft>?"))


def test_bundled_models_have_a_name() -> None:
    assert set(MODELS) <= set(bundled_names())
    assert all(locate(name)[0] for name in bundled_names())


def test_what_is_drawn_for_a_model_does_not_depend_on_where_its_folder_is(tmp_path: Path) -> None:
    """Seed draws by content, so that a moved run stays equal; bundled models draw by name."""
    name = MODELS[0]
    copies = [
        shutil.copytree(locate(name)[0], tmp_path / place / "model") for place in ("here", "there")
    ]
    models = [Backbone.load(str(copied)) for copied in copies]
    assert models[0].identity == models[1].identity == Backbone.load(name).fingerprint
    first, second = (
        read_state(build_lora(model, AdapterSettings(r=2), 0), "local") for model in models
    )
    assert first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) for key in first
    )
    assert Backbone.load(name).identity == name


def test_bfloat16_on_the_cpu_when_asked_for() -> None:
    backbone = Backbone.load(MODELS[1], ModelOptions(dtype="bfloat16"))
    assert backbone.dtype == torch.bfloat16
    batch = backbone.collate([backbone.encode(example())])
    assert batch.inputs["mm_encoder_outputs"]["image"].pooler_output[0].dtype == torch.bfloat16
    assert backbone.logits(backbone.model, batch).dtype == torch.bfloat16
