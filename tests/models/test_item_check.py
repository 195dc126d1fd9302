"""Test which examples are found that a model cannot take, and that few are encoded for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmosaic.data import Example, Image, Turn
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.item_check import ItemCheck, first_refusal
from tests.families import VISION, build
from tests.families.examples import EXAMPLES, ONE, picture
from tests.families.sample import sample

TEXTS = ("a", "Grüße, 你好 — ﷺ ﬃ ½", "of " * 40, "\u0958\u1e9b\u0323")


def asked(name: str, text: str, *images: Image) -> Example:
    marks = "<image>" * len(images)
    return Example(name, (Turn("user", f"{marks} {text}"), Turn("assistant", "yes")), images)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Backbone:
    return Backbone.load(str(build("llama", tmp_path_factory.mktemp("llama"))))


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the examples that are encoded from here on."""
    names: list[str] = []
    real = Backbone.encode

    def encode(self: Backbone, example: Example, *arguments: Any) -> Any:
        names.append(example.id)
        return real(self, example, *arguments)

    monkeypatch.setattr(Backbone, "encode", encode)
    return names


def test_one_example_of_each_form_is_encoded(llama: Backbone, encoded: list[str]) -> None:
    first = [asked("0", "short"), EXAMPLES["two turns"], EXAMPLES["system turn"]]
    others = [asked(str(number), f"number {number}" * number) for number in range(1, 9)]
    assert first_refusal(llama, [*first, *others]) is None
    assert encoded == ["0", "two turns", "system turn"]


def test_an_image_in_a_later_example(llama: Backbone) -> None:
    found = first_refusal(llama, [asked("0", "a"), asked("1", "b"), asked("2", "c", ONE)])
    assert found is not None and found.index == 2
    assert isinstance(found.reason, ModelError) and "takes text only" in str(found.reason)


def test_a_later_example_that_is_too_long(llama: Backbone, encoded: list[str]) -> None:
    fits, longer = asked("fits", "of " * 700), asked("longer", "of " * 2100)
    found = first_refusal(llama, [asked("0", "a"), fits, longer])
    assert found is not None and found.index == 2
    assert isinstance(found.reason, DataError) and "takes at most 2048" in str(found.reason)
    assert encoded == ["0", "fits", "longer"], "2100 bytes may be too many tokens: it is encoded"


def test_a_token_without_an_embedding_in_a_later_example(tmp_path: Path) -> None:
    base = Backbone.load(str(build("llama", tmp_path)))
    rows = base.model.get_input_embeddings().weight.shape[0]
    base.tokenizer.add_tokens([f"<|new {k}|>" for k in range(rows - len(base.tokenizer) + 1)])
    last = base.tokenizer.convert_ids_to_tokens(rows)
    found = first_refusal(base, [asked("0", "a"), asked("1", "<|new 0|>"), asked("2", last)])
    assert found is not None and found.index == 2
    assert "no embedding" in str(found.reason)


@pytest.mark.parametrize("late", ["the end <|eot_id|>", "<|start_header_id|>"])
def test_a_later_example_that_no_template_can_write(llama: Backbone, late: str) -> None:
    found = first_refusal(llama, [asked("0", "a"), asked("1", "a < b"), asked("2", late)])
    assert found is not None and found.index == 2


@pytest.mark.parametrize(
    "name",
    sample(
        [*(name for name in VISION if name not in ("mllama", "idefics2")), "llama", "mistral"],
        *("llava_llama", "qwen2_vl", "internvl", "smolvlm", "mistral"),
    ),
)
def test_no_example_that_is_too_long_is_taken_for_one_that_fits(name: str, tmp_path: Path) -> None:
    base = Backbone.load(str(build(name, tmp_path)))
    images: list[tuple[Image, ...]] = [()] if name not in VISION else []
    if name in VISION:
        images = [(picture(2, 30, 150),), (ONE, picture(3, 99, 25))]
    for shown in images:
        check = ItemCheck(base)
        check.require(asked("first", "a", *(ONE for _ in shown)))
        (overhead,) = check.lengths.values()
        for text in TEXTS:
            example = asked("other", text, *shown)
            check.longest = len(base.encode(example).input_ids) - 1
            assert not check._fits(example, overhead)
            check.longest = 4 * check.longest + 500
            surely = check._fits(example, overhead)
            assert surely or name in ("smolvlm", "ovis2"), "their processors cannot say"


@pytest.mark.parametrize("name", ["llama", "qwen2_vl", "llava_llama"])
def test_tokens_are_counted_without_encoding(name: str, tmp_path: Path, encoded: list[str]) -> None:
    base = Backbone.load(str(build(name, tmp_path)))
    check = ItemCheck(base)
    shown = () if name == "llama" else (ONE,)
    check.require(asked("first", "a", *shown))
    for text in ("b", "of " * 40, "Which of these is red?"):
        example = asked("other", text, *(picture(2, 30, 150) for _ in shown))
        check.require(example)
        found = check.count_tokens(example)
        assert encoded == ["first"]
        exact = len(base.encode(example).input_ids)
        encoded.pop()
        assert found is not None and abs(found - exact) <= 2, (found, exact)
