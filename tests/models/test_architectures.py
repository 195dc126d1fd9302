"""Test that model names are one architecture exactly where they mean one model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from checkpoints import MINIATURE, edit_json, edit_weights, language_model, vision_model
from transformers import AutoModelForCausalLM

from fedmosaic.models import architectures as module
from fedmosaic.models.architectures import architectures, same_model
from fedmosaic.models.loading import locate


def test_spellings_of_one_path_are_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = language_model(tmp_path / "home" / "model")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module, "_copies", lambda *_: pytest.fail("compared by content"))
    spellings = [f"{folder}", f"{folder}/", "home/model", "./home/../home/model", "link", "~/model"]
    assert set(architectures(spellings).values()) == {str(folder)}
    assert architectures(spellings[::-1])[str(folder)] == "~/model"


def test_copies_are_one_model_however_their_weights_are_cut(tmp_path: Path) -> None:
    one = language_model(tmp_path / "one")
    two = Path(shutil.copytree(one, tmp_path / "two"))
    edit_json(
        two / "config.json", lambda c: c.update(transformers_version="5.0.0", dtype="float32")
    )
    AutoModelForCausalLM.from_pretrained(one).save_pretrained(two, max_shard_size="100KB")
    (two / "model.safetensors").unlink()
    assert same_model(str(one), str(two))
    pictures = [str(vision_model(tmp_path / name)) for name in ("first", "second")]
    names = [str(one), *pictures, str(two)]
    assert list(architectures(names).values()) == [str(one), pictures[0], pictures[0], str(one)]
    assert same_model(MINIATURE, pictures[0]) and same_model(pictures[0], MINIATURE)


def other_template(folder: Path) -> None:
    path = folder / "chat_template.jinja"
    path.write_text(path.read_text() + "!")


CHANGES: dict[str, Callable[[Path], object]] = {
    "a weight": lambda f: edit_weights(
        f / "model.safetensors", lambda t: t[sorted(t)[3]].view(-1)[-1].add_(1)
    ),
    "the type of the weights": lambda f: edit_weights(
        f / "model.safetensors", lambda t: [t.update({k: v.float()}) for k, v in t.items()]
    ),
    "rope": lambda f: edit_json(
        f / "config.json", lambda c: c["text_config"]["rope_parameters"].update(rope_theta=2e4)
    ),
    "the tower": lambda f: edit_json(
        f / "config.json", lambda c: c["vision_config"].update(num_attention_heads=2)
    ),
    "the projector": lambda f: edit_json(
        f / "config.json", lambda c: c.update(projector_hidden_act="relu")
    ),
    "the processor": lambda f: edit_json(
        f / "preprocessor_config.json", lambda c: c.update(image_mean=[0.4, 0.5, 0.5])
    ),
    "the template": other_template,
    "a broken file": lambda f: (f / "model.safetensors").write_bytes(b"1"),
    "no tokenizer": lambda f: (f / "tokenizer.json").unlink(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_models_that_differ_in_anything_are_two(tmp_path: Path, change: str) -> None:
    folder = vision_model(tmp_path / "changed")
    assert same_model(MINIATURE, str(folder))
    CHANGES[change](folder)
    assert not same_model(MINIATURE, str(folder))


def test_other_names_are_compared_as_written(tmp_path: Path) -> None:
    names = ["owner/name", "owner/name@v1", "pypi:gemma3-270m", "./gone", str(tmp_path), MINIATURE]
    assert architectures([*names, *names]) == {name: name for name in names}
    assert not same_model(MINIATURE, f"{MINIATURE}@1")


def test_gguf_files_are_compared_by_content(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.gguf" for name in "abc"]
    for path, content in zip(paths, (b"GGUF1", b"GGUF1", b"GGUF2"), strict=True):
        path.write_bytes(content)
    found = architectures([str(path) for path in paths])
    assert list(found.values()) == [str(paths[0]), str(paths[0]), str(paths[2])]
    assert locate(str(paths[0])).gguf == "a.gguf"


def test_bits_decide_not_values(tmp_path: Path) -> None:
    """Compare NaN as equal to itself: a copy of broken weights is a copy."""
    one = language_model(tmp_path / "one")
    edit_weights(one / "model.safetensors", lambda t: t[sorted(t)[0]].fill_(torch.nan))
    assert same_model(str(one), str(shutil.copytree(one, tmp_path / "two")))
