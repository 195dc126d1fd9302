"""Test that models which cannot take a client's items are refused before anything trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedmosaic
from fedmosaic.errors import DataError, FedMosaicError, ModelError
from fedmosaic.federation.run_folder import RunFolder
from tests.families.examples import picture

Item = dict[str, Any]
WAY = "use a vision-language model"


def item(name: str, *questions: str, images: int = 0, root: Path | None = None) -> Item:
    """Return an item of some questions; the first one shows the images."""
    turns = []
    for number, question in enumerate(questions):
        marks = "<image>" * images if number == 0 else ""
        turns += [{"from": "human", "value": f"{marks}{question}"}, {"from": "gpt", "value": "red"}]
    shown = []
    for number in range(images):
        assert root is not None
        shown.append(str(root / f"{number}.png"))
        picture(number, 40, 60).load().save(shown[-1])
    return {"id": name, "conversations": turns, **({"image": shown} if shown else {})}


@pytest.fixture
def start(tmp_path: Path, folder_of: Callable[[str], Path]) -> Callable[..., Any]:
    """Run one or two clients; client b has another model and texts."""

    def write(name: str, train: list[Item], test: list[Item]) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "test.json").write_text(json.dumps(test))
        (folder / "train.json").write_text(json.dumps(train))
        return str(folder / "train.json")

    def run(
        family: str,
        train: list[Item],
        test: list[Item] | None = None,
        other: str | None = None,
        public: list[Item] | None = None,
        **settings: Any,
    ) -> Any:
        plain = [item(f"plain {number}", "What colour?") for number in range(3)]
        files = {"a": (family, write("a", train, test or train[:1]))}
        if other is not None:
            files["b"] = (other, write("b", plain, plain))
        scenario = {
            "rounds": 1,
            "clients": [
                {"name": name, "model": str(folder_of(model)), "tasks": [file]}
                for name, (model, file) in files.items()
            ],
            "data": {"public": write("public", public, public) if public else "none"},
            "adapter": {"num_blocks": 1},
            "alignment": {"method": "none"},
            "train": {"steps": 1},
            "evaluation": {"others": False},
        }
        (tmp_path / "mine.yaml").write_text(json.dumps(scenario))
        options = {"algorithm": "fedavg", "progress": False, "trackers": (), "workers": 1}
        out = tmp_path / "run"
        try:
            return fedmosaic.run(tmp_path / "mine.yaml", out=out, **{**options, **settings})
        except FedMosaicError:
            assert not out.exists()
            raise

    return run


def plain(*names: str) -> list[Item]:
    return [item(name, "What colour?") for name in names]


def test_an_image_in_a_later_item_of_a_model_for_text(start: Any, tmp_path: Path) -> None:
    train = [*plain("0", "1"), item("late", "What?", images=1, root=tmp_path)]
    where = r"mine\.yaml: clients\.0\.model: client 'a': .*train\.json: item 2 \(id 'late'\): .*"
    with pytest.raises(ModelError, match=where + "takes text only: " + WAY):
        start("llama", train)


def test_an_image_in_a_later_test_item(start: Any, tmp_path: Path) -> None:
    test = [*plain("0"), item("late", "What?", images=1, root=tmp_path)]
    with pytest.raises(
        ModelError, match=rf"client 'a': .*test\.json: item 1 \(id 'late'\): .*{WAY}"
    ):
        start("qwen3", plain("1", "2"), test)


def test_another_clients_images_in_the_evaluation(start: Any, tmp_path: Path) -> None:
    shown = [item(str(number), "What?", images=1, root=tmp_path) for number in range(2)]
    message = rf"clients\.1\.model: client 'b': .*test\.json: .*{WAY}, or set evaluation\.others to"
    with pytest.raises(ModelError, match=message):
        start("qwen2_vl", shown, other="llama", overrides=["evaluation.others=true"])


def test_training_on_the_data_of_all_clients(start: Any, tmp_path: Path) -> None:
    shown = [item(str(number), "What?", images=1, root=tmp_path) for number in range(2)]
    with pytest.raises(ModelError, match=rf"client 'b': .*a/train\.json: item 0 .*{WAY}$"):
        start("qwen2_vl", shown, other="llama", algorithm="pooled")


def test_public_images_of_an_algorithm_that_works_on_them(start: Any, tmp_path: Path) -> None:
    public = [*plain("0"), item("late", "What?", images=1, root=tmp_path)]
    message = rf"data\.public: client 'a': .*public/train\.json: item 1 \(id 'late'\): .*{WAY}"
    with pytest.raises(ModelError, match=message):
        start("llama", plain("0", "1"), public=public, algorithm="fedmkt")


def test_public_images_of_an_alignment_with_a_model_for_text(start: Any, tmp_path: Path) -> None:
    public = [*plain("0"), item("late", "What?", images=1, root=tmp_path)]
    message = (
        rf"mine\.yaml: data\.public: \S*public/train\.json: item 1 \(id 'late'\): .*{WAY}.* "
        "set alignment.method=none"
    )
    with pytest.raises(ModelError, match=message):
        start(
            "llama",
            plain("0", "1"),
            public=public,
            algorithm="fedmosaic",
            overrides=["alignment.method=gradients"],
        )


def test_items_are_checked_before_models_are_aligned(
    start: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alignment takes minutes."""

    def align(*_: Any) -> None:
        raise AssertionError("aligned before the items were checked")

    monkeypatch.setattr("fedmosaic.federation.runtime.Runtime.alignment", align)
    shown = [item(str(number), "What?", images=1, root=tmp_path) for number in range(2)]
    with pytest.raises(ModelError, match=rf"client 'b': .*{WAY}, or set evaluation\.others to"):
        start("qwen2_vl", shown, other="llama", overrides=["evaluation.others=true"])


@pytest.mark.parametrize("late", ["text", "two turns"])
def test_more_than_one_question_about_images(start: Any, tmp_path: Path, late: str) -> None:
    """PaliGemma takes one question about images."""
    questions = ("What?", "And?") if late == "two turns" else ("What?",)
    train = [
        item("0", "What?", images=1, root=tmp_path),
        item("1", "What?", images=2, root=tmp_path),
        item(late, *questions, images=len(questions) - 1, root=tmp_path),
    ]
    message = rf"item 2 \(id '{late}'\): .* takes one question about at least one image .*: use a "
    with pytest.raises(ModelError, match=message):
        start("paligemma", train)


@pytest.mark.parametrize("family", ["gpt2", "qwen2_vl"])
def test_a_later_item_that_is_too_long(start: Any, tmp_path: Path, family: str) -> None:
    images = 1 if family == "qwen2_vl" else 0
    train = [item(str(number), "What?", images=images, root=tmp_path) for number in range(2)]
    train.append(item("long", "What about it? " * 300, images=images, root=tmp_path))
    message = r"client 'a': .*train\.json: item 2 \(id 'long'\): .* tokens; .* takes at most .*: sh"
    with pytest.raises(DataError, match=message):
        start(family, train)


def test_a_processor_that_does_not_show_its_image_tokens(start: Any, tmp_path: Path) -> None:
    shown = [item("0", "What?", images=1, root=tmp_path)]
    message = r"item 1 \(id '0'\): the processor .*\(Idefics2Processor\) .*: use another model"
    with pytest.raises(ModelError, match=message):
        start("idefics2", [*plain("1"), *shown])


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        ("mllama", "takes no image features that were computed beforehand.*: use a model that"),
        ("t5", "an encoder-decoder model: use a causal language model"),
        ("bart", "an encoder-decoder model: use a causal language model"),
    ],
)
def test_a_model_that_cannot_be_trained(start: Any, family: str, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"mine\.yaml: clients\.0\.model: .*{reason}"):
        start(family, plain("0", "1"))


def test_a_signature_model_that_cannot_take_the_items(
    start: Any, folder_of: Callable[[str], Path]
) -> None:
    change = [f"relevance.model={folder_of('paligemma')}"]
    message = r"relevance\.model: .*paligemma cannot take an item that client 'a' trains on: .*item"
    with pytest.raises(ModelError, match=message):
        start("llama", plain("0", "1"), algorithm="fedmosaic", overrides=change)


def test_the_smallest_model_that_can_take_the_items_computes_signatures(
    start: Any, folder_of: Callable[[str], Path], tmp_path: Path
) -> None:
    shown = [item(str(number), "What?", images=1, root=tmp_path) for number in range(2)]
    run = start("qwen2_vl", shown, other="llama", algorithm="fedmosaic")
    settings = RunFolder.open(run.folder)[1]
    seeing, reading = str(folder_of("qwen2_vl")), str(folder_of("llama"))
    assert settings.scenario.relevance.model == seeing and settings.signature is not None
    assert settings.signature.skipped.keys() == {reading}
    assert "client 'a' trains on: " in settings.signature.skipped[reading]


def test_families_without_a_common_module_are_both_named(start: Any) -> None:
    message = (
        r"mine\.yaml: the models '.*mamba' and '.*llama' have no adapted module in common.*"
        r"\('.*mamba' has in_proj; '.*llama' has q_proj, .* Name modules .*adapter\.target_modules"
    )
    with pytest.raises(ModelError, match=message):
        start("mamba", plain("0", "1"), other="llama", algorithm="fedmosaic")
