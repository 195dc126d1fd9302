"""Test that every broken checkpoint is refused in one sentence that names model and way out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import edit_json, edit_weights, language_model, vision_model, with_tokenizer
from transformers import (
    BertConfig,
    BertForMaskedLM,
    CLIPConfig,
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    T5Config,
)

from fedmosaic.errors import ModelError
from fedmosaic.models.loading import ModelOptions, load_pretrained

HEAD = "model.layers.1.mlp.down_proj.weight"


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def without_tokenizer(folder: Path) -> None:
    for path in [*folder.glob("tokenizer*"), *folder.glob("*.jinja")]:
        path.unlink()


def shorter_embedding(folder: Path) -> None:
    def shorten(tensors: dict[str, torch.Tensor]) -> None:
        for key in ("model.embed_tokens.weight", "lm_head.weight"):
            tensors[key] = tensors[key][:600].contiguous()

    edit_weights(folder / "model.safetensors", shorten)
    edit_json(folder / "config.json", lambda config: config.update(vocab_size=600))


def add_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')


TEXT_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut short": (
        lambda f: cut(f / "model.safetensors"),
        r"model\.safetensors cannot be read; the file is incomplete or damaged .*download it again",
    ),
    "pointer of Git LFS": (
        lambda f: (f / "model.safetensors").write_text("version https://git-lfs.github.com/spec"),
        r"git lfs pull",
    ),
    "a weight is missing": (
        lambda f: edit_weights(f / "model.safetensors", lambda t: t.pop(HEAD)),
        rf"lacks 1 of the \d+ weights of LlamaForCausalLM \({HEAD}\)",
    ),
    "all names differ": (
        lambda f: edit_weights(
            f / "model.safetensors",
            lambda t: [t.update({f"base.{key}": t.pop(key)}) for key in list(t)],
        ),
        r"lacks 21 of the 21 weights .* but holds base\.",
    ),
    "another size": (
        lambda f: edit_weights(
            f / "model.safetensors", lambda t: t.update({HEAD: torch.zeros(64, 120)})
        ),
        rf"other sizes than config\.json says \(1\), e\.g\. {HEAD}: \[64, 120\] .*\[64, 128\] by",
    ),
    "pickled weights": (pickled, r"pickled \(pytorch_model\.bin\).*save_pretrained"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"holds no weights"),
    "tokenizer is longer": (
        shorter_embedding,
        r"has 610 tokens, but the model has embeddings for 600, so .* \(id 600\) has none.*resize",
    ),
    "no tokenizer": (without_tokenizer, r"holds no tokenizer \(tokenizer\.json\): copy it"),
    "tokenizer is broken": (
        lambda f: (f / "tokenizer.json").write_text("{"),
        r"cannot be loaded: its tokenizer cannot be read \(.*download it again",
    ),
    "config is no JSON": (
        lambda f: (f / "config.json").write_text('{"model_type": '),
        r"config\.json cannot be read .*download it again",
    ),
    "no model type": (
        lambda f: edit_json(f / "config.json", lambda c: c.pop("model_type")),
        r"has no model_type",
    ),
    "unknown model type": (
        lambda f: edit_json(f / "config.json", lambda c: c.update(model_type="llama9")),
        r"type 'llama9', which transformers [\d.]+ does not know: install a newer one",
    ),
    "code of its own": (
        lambda f: edit_json(
            f / "config.json",
            lambda c: c.update(model_type="llama9", auto_map={"AutoConfig": "code.Config"}),
        ),
        r"needs Python code .* models\.trust_remote_code: true, which runs it with your rights",
    ),
    "also an adapter": (add_adapter, r"holds a model .* and an adapter .*: move the adapter"),
}


@pytest.mark.parametrize("fault", TEXT_FAULTS)
def test_a_broken_language_model_is_refused(tmp_path: Path, fault: str) -> None:
    folder = language_model(tmp_path / "my model")
    change, message = TEXT_FAULTS[fault]
    change(folder)
    refused(folder, message)


def image_token_outside(folder: Path) -> None:
    edit_json(folder / "config.json", lambda config: config.update(image_token_index=99999))


VISION_FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "image token": (
        image_token_outside,
        r"image token of its config \(id 99999\) is not in its tokenizer, which has 610 tokens",
    ),
    "no processor": (
        lambda f: [path.unlink() for path in f.glob("*processor_config.json")],
        r"holds no image processor \(preprocessor_config\.json or .*: copy it, and",
    ),
    "processor of another size": (
        lambda f: edit_json(
            f / "preprocessor_config.json",
            lambda c: c.update(
                size={"height": 40, "width": 40}, crop_size={"height": 40, "width": 40}
            ),
        ),
        r"images of 40 × 40 pixels, but its vision tower takes 60 × 60",
    ),
    "processor of another patch size": (
        lambda f: edit_json(f / "preprocessor_config.json", lambda c: c.update(patch_size=14)),
        r"processor has patch_size 14, but its vision tower patch_size 20",
    ),
}


@pytest.mark.parametrize("fault", VISION_FAULTS)
def test_a_broken_vision_language_model_is_refused(tmp_path: Path, fault: str) -> None:
    folder = vision_model(tmp_path / "my model")
    change, message = VISION_FAULTS[fault]
    change(folder)
    refused(folder, message)


SMALL = {
    "vocab_size": 610, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1,
    "num_attention_heads": 1, "num_key_value_heads": 1,
}  # fmt: skip


def bert(folder: Path) -> None:
    BertForMaskedLM(
        BertConfig(vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=1)
    ).save_pretrained(folder)


def embedding_model(folder: Path) -> None:
    LlamaModel(LlamaConfig(**SMALL)).save_pretrained(folder)


def classifier(folder: Path) -> None:
    LlamaForSequenceClassification(LlamaConfig(**SMALL)).save_pretrained(folder)


OTHER_KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "bert": (bert, r"type 'bert' \(BertForMaskedLM\), which does not continue a text"),
    "clip": (CLIPConfig().save_pretrained, r"type 'clip', which does not continue a text"),
    "t5": (T5Config().save_pretrained, r"type 't5', an encoder-decoder model"),
    "embedding": (embedding_model, r"saved as LlamaModel, which has no language-model head"),
    "classifier": (classifier, r"saved as LlamaForSequenceClassification, which has no"),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_another_kind_of_model_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "my model"
    make, message = OTHER_KINDS[kind]
    make(folder)
    if not (folder / "model.safetensors").is_file():
        shutil.copy(language_model(tmp_path / "other") / "model.safetensors", folder)
    refused(with_tokenizer(folder), message + ".*: use a causal language model or an image-text")


def refused(folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=f"(?s){message}") as caught:
        load_pretrained(str(folder), ModelOptions(device="cpu"))
    assert "my model" in str(caught.value) and "\n" not in str(caught.value)


def test_sharded_files_load_and_a_missing_or_unnamed_one_is_told(tmp_path: Path) -> None:
    whole = language_model(tmp_path / "whole")
    model, _, _ = load_pretrained(str(whole), ModelOptions(device="cpu"))
    folder = with_tokenizer(whole.rename(tmp_path / "my model"))
    model.save_pretrained(folder, max_shard_size="100KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    loaded, _, _ = load_pretrained(str(folder), ModelOptions(device="cpu"))
    assert all(
        torch.equal(a, b) for a, b in zip(model.parameters(), loaded.parameters(), strict=True)
    )
    content = shards[1].read_bytes()
    shards[1].unlink()
    refused(folder, rf"1 of its {len(shards)} weight files are missing \({shards[1].name}\)")
    shards[1].write_bytes(content)
    index = folder / "model.safetensors.index.json"
    edit_json(index, lambda c: c["weight_map"].update({HEAD: "elsewhere.safetensors"}))
    refused(
        folder, r"are missing \(elsewhere\.safetensors\), which model\.safetensors\.index\.json"
    )
    index.write_text("{")
    refused(folder, r"index\.json cannot be read")
    index.write_text(json.dumps({"metadata": {}}))
    refused(folder, r"has no weight_map")


def test_weights_that_the_model_does_not_use_are_told(tmp_path: Path) -> None:
    folder = language_model(tmp_path / "model")
    edit_weights(
        folder / "model.safetensors",
        lambda t: t.update(
            {"score.weight": torch.ones(2), "model.layers.0.rotary_emb.inv_freq": torch.ones(2)}
        ),
    )
    with pytest.warns(UserWarning, match=r"does not use 1 weights .*\(score\.weight\)"):
        load_pretrained(str(folder), ModelOptions(device="cpu"))


def test_tied_weights_and_spare_special_tokens_are_no_fault(tmp_path: Path) -> None:
    """Gemma 3's text models have a token for images beyond their embeddings."""
    folder = language_model(tmp_path / "model", tie_word_embeddings=True)
    _, tokenizer, _ = load_pretrained(str(folder), ModelOptions(device="cpu"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<soft image>"]})
    tokenizer.save_pretrained(folder)
    _, tokenizer, _ = load_pretrained(str(folder), ModelOptions(device="cpu"))
    assert len(tokenizer) == 611
    tokenizer.chat_template += "<soft image>"
    tokenizer.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"'<soft image>' \(id 610\) has none"):
        load_pretrained(str(folder), ModelOptions(device="cpu"))


def test_nothing_is_printed_beside_the_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = language_model(tmp_path / "my model")
    edit_weights(folder / "model.safetensors", lambda t: t.pop(HEAD))
    capfd.readouterr()
    refused(folder, "lacks 1")
    assert "LOAD REPORT" not in "".join(capfd.readouterr())
