"""Test which model computes signatures, and what is said where none can."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import yaml
from rich.console import Console
from short_run import numbers, start

from fedmosaic.config import RunSettings, SignatureRecord
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ModelError
from fedmosaic.federation.run import resolve
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.relevance import SignatureKind
from fedmosaic.reporting.progress import ConsoleProgress
from tiny_scenario import TINY

SMALL, LARGE = "miniature/llama-8x96", "miniature/qwen2-10x112"


def item(number: int, image: str | None = None) -> dict[str, Any]:
    question = f"{'<image> ' if image else ''}What is {number}?"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": str(number)}]
    return {"id": f"i{number}", **({"image": image} if image else {}), "conversations": turns}


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Client a, whose model takes text only, has texts; b has texts and, later, an image."""
    PIL.Image.new("RGB", (24, 24), "red").save(tmp_path / "red.png")
    for name, images in (("texts", ()), ("later", (3,))):
        for split in ("train", "test"):
            path = tmp_path / name / f"{split}.json"
            path.parent.mkdir(exist_ok=True)
            shown = images if split == "train" else ()
            items = [item(n, "../red.png" if n in shown else None) for n in range(4)]
            path.write_text(json.dumps(items))
    clients = [
        {"name": "a", "model": SMALL, "tasks": [str(tmp_path / "texts" / "train.json")]},
        {"name": "b", "model": LARGE, "tasks": [str(tmp_path / "later" / "train.json")]},
    ]
    scenario = {**TINY, "rounds": 1, "clients": clients, "data": {"public": "none"}}
    scenario["evaluation"] = {"others": False}
    (tmp_path / "mixed.yaml").write_text(yaml.safe_dump(scenario))
    real = Runtime.backbone

    def text_only(self: Runtime, name: str) -> Any:
        backbone = real(self, name)
        if name == SMALL:
            backbone.images = backbone.encoder.images = None
        return backbone

    monkeypatch.setattr(Runtime, "backbone", text_only)
    return tmp_path / "mixed.yaml"


def resolved(path: Path, *overrides: str, algorithm: str = "fedmosaic") -> RunSettings:
    scenario = load_scenario(path, overrides)
    return resolve(Runtime(RunSettings(name=path.name, algorithm=algorithm, scenario=scenario)))


def without_signatures(*names: str) -> Any:
    def kind(backbone: Any) -> SignatureKind:
        if backbone.name in names:
            return SignatureKind("no", "", "it has no last layer")
        return SignatureKind("autograd", "model.layers.1.mlp.down_proj", "caps")

    return kind


def test_the_smallest_model_that_takes_images_is_chosen(mixed: Path, tmp_path: Path) -> None:
    run = start(mixed, tmp_path / "run")
    settings = RunFolder.open(run.folder)[1]
    assert settings.scenario.relevance.model == LARGE
    assert settings.scenario.alignment.pivot == SMALL
    assert settings.signature == SignatureRecord(
        method="closed form",
        layer="model.language_model.layers.9.mlp.down_proj",
        skipped={
            SMALL: "cannot take an item that client 'b' trains on: "
            f"{tmp_path}/later/train.json: item 3 (id 'i3'): example 'i3' has images, but {SMALL} "
            "takes text only: use a vision-language model"
        },
    )
    (relevance,) = [line for line in numbers(run.folder) if line["kind"] == "round"]
    assert relevance["relevance"]["similarity"][0][1] != 0


def test_without_images_the_smallest_is_chosen(mixed: Path) -> None:
    path = mixed.parent / "later" / "train.json"
    path.write_text(json.dumps([item(number) for number in range(4)]))
    settings = resolved(mixed)
    assert settings.scenario.relevance.model == SMALL
    assert settings.signature is not None and not settings.signature.skipped


def test_an_algorithm_without_signatures_needs_no_such_model(mixed: Path) -> None:
    for algorithm in ("fedavg", "fedmosaic-no-communication"):
        settings = resolved(mixed, algorithm=algorithm)
        assert settings.scenario.relevance.model == SMALL and settings.signature is None


def test_a_text_model_is_refused_for_images_before_anything_trains(
    mixed: Path, tmp_path: Path
) -> None:
    message = (
        rf"mixed\.yaml: relevance\.model: {SMALL} cannot take an item that client 'b' trains on: "
        r".*later/train\.json: item 3 \(id 'i3'\): .* use a vision-language model\. .* name another"
    )
    with pytest.raises(ModelError, match=message):
        start(mixed, tmp_path / "run", overrides=[f"relevance.model={SMALL}"])
    assert not (tmp_path / "run").exists()


def test_models_without_a_signature_are_passed_over_and_said(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = without_signatures(SMALL)
    monkeypatch.setattr("fedmosaic.federation.signature_choice.signature_kind", found)
    settings = resolved(tiny)
    assert settings.scenario.relevance.model == LARGE
    stream = io.StringIO()
    progress = ConsoleProgress(Console(file=stream))
    progress.run_started(settings, 0)
    progress.closed()
    assert stream.getvalue().splitlines()[2:] == [
        f"signatures: {LARGE}, by autograd, at model.layers.1.mlp.down_proj",
        f"  not {SMALL}: it can give no signature: it has no last layer",
    ]


def test_all_reasons_are_named_where_no_model_is_usable(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = without_signatures(LARGE)
    monkeypatch.setattr("fedmosaic.federation.signature_choice.signature_kind", found)
    message = (
        rf"mixed\.yaml: relevance\.model: smallest: no model .* {SMALL} cannot take .*; "
        rf"{LARGE} can give no signature: it has no last layer\. One model .* name another model"
    )
    with pytest.raises(ModelError, match=message):
        resolved(mixed)


def test_a_client_is_told_of_images_in_later_items(mixed: Path, tmp_path: Path) -> None:
    later = tmp_path / "later" / "train.json"
    change = f"clients=[{{name: a, model: {SMALL}, tasks: ['{later}']}}]"
    message = (
        r"clients\.0\.model: client 'a': .*train\.json: item 3 \(id 'i3'\): .* takes text only: "
        "use a vision-language model$"
    )
    with pytest.raises(ModelError, match=message):
        start(mixed, tmp_path / "run", algorithm="fedavg", overrides=[change])
