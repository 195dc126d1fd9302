"""Test ``fedmosaic predict``: a client answers as it did in its run, and says with which model."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText

import fedmosaic
from fedmosaic.adapters.exported import ExportedLora
from fedmosaic.cli import main
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.data import Example, load_task
from fedmosaic.errors import CheckpointError, ConfigError, DataError, ModelError
from fedmosaic.federation.data_record import DataRecord
from fedmosaic.federation.prediction import Prediction, predict
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.stored_client import load_client, require_same_prompts
from fedmosaic.models.backbone import Backbone
from tiny_scenario import TINY

PAIR = [
    {"name": "a", "model": "miniature/llama-8x96", "tasks": ["miniature/stages-0"]},
    {"name": "b", "model": "miniature/llama-8x96", "tasks": ["miniature/idiom-1"]},
    {"name": "c", "model": "miniature/qwen2-10x112", "tasks": ["miniature/cuisine-0"]},
]
TASKS = [client["tasks"][0] for client in PAIR]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run in which c gets P and Q of the others, to read by difference."""
    content = {
        **TINY,
        "clients": PAIR,
        "rounds": 2,
        "data": {**TINY["data"], "train": 16, "test": 8},
        "evaluation": {"every": 0},
        "algorithms": {"fedmosaic-experts": {"across": "moved"}},
    }
    out = tmp_path_factory.mktemp("prediction") / "run"
    fedmosaic.run(
        Scenario.model_validate(content),
        algorithm="fedmosaic-experts",
        out=out,
        progress=False,
        trackers=(),
        workers=1,
    )
    return out


def scores(folder: Path, client: str) -> dict[str, dict[str, Any]]:
    """Return the lines of a client's scores after the last round, by task."""
    lines = RunFolder(folder).lines()
    return {
        line["task"]: line for line in lines if line["kind"] == "score" and line["client"] == client
    }


@pytest.mark.parametrize("client", ["a", "c"])
def test_answers_are_those_of_the_evaluation(ran: Path, client: str) -> None:
    opened, settings = RunFolder.open(ran)
    spec = next(spec for spec in settings.scenario.clients if spec.name == client)
    tests = {name: load_task(name, seed=0, train_limit=16, test_limit=8).test for name in TASKS}
    examples = [example for test in tests.values() for example in test]
    found = predict(load_client(opened, settings, spec), examples, [True] * len(examples))
    measured, rest = scores(ran, client), iter(found)
    for name, test in tests.items():
        part = [next(rest) for _ in test]
        assert Counter(one.model for one in part) == measured[name]["routes"]
        assert sum(bool(one.right) for one in part) / len(part) == measured[name]["value"]
        for one in part:
            check_reason(one)
    across = ("expert c/",) if client == "a" else ("expert a/", "expert b/")
    differing = {one.model for one in found if one.by_difference}
    assert differing and differing == {o.model for o in found if o.model.startswith(across)}


def plain_inputs(processor: Any, example: Example) -> Any:
    """Return the input of a prompt as the processor of transformers has it."""
    return processor.apply_chat_template(
        [{"role": "user", "content": example.question}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"images": [image.load() for image in example.images]},
    )


@torch.no_grad()
def test_plain_peft_gives_the_same_choices_and_scores(
    ran: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = fedmosaic.export(ran, "a", tmp_path / "bank", experts=True)
    assert {path.suffix for path in bank.rglob("*") if path.is_file()} == {
        ".json",
        ".md",
        ".safetensors",
    }
    monkeypatch.chdir(bank)
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.S)[0], names)
    facts = names["facts"]
    # The folder of a bundled model does not say how many tokens an image has.
    processor = Backbone.load("miniature/llama-8x96").processor
    load = partial(AutoModelForImageTextToText.from_pretrained, dtype=torch.float32)
    shared = load(facts["features"]["model"]).eval()
    base = ExportedLora.read(bank / "own").base_model
    model = load(base)
    model = PeftModel.from_pretrained(model, "own", adapter_name="own").eval()
    for name, one in facts["models"].items():
        if name != "own":
            model.load_adapter(one["folder"], adapter_name=name)
    examples = [e for t in TASKS for e in load_task(t, seed=0, test_limit=2).test]
    opened, settings = RunFolder.open(ran)
    stored = load_client(opened, settings, settings.scenario.clients[0])
    found = predict(stored, examples, [True] * 6)
    for example, one in zip(examples, found, strict=True):
        inputs = plain_inputs(processor, example)
        states = shared(**inputs, output_hidden_states=True)
        chosen = names["choose"](
            names["features"](states.hidden_states[facts["features"]["layer"]][0])
        )
        assert chosen == one.model
        model.set_adapter(chosen)
        tokens = [
            processor.tokenizer(o, add_special_tokens=False).input_ids for o in example.options
        ]
        logits = model(**inputs).logits[0, -1]
        if facts["models"][chosen]["by_difference"]:
            with model.disable_adapter():
                logits = logits - model(**inputs).logits[0, -1]
        plain = logits[torch.tensor(tokens)[:, 0]]
        torch.testing.assert_close(plain, torch.tensor(one.scores), atol=1e-4, rtol=1e-4)
    assert len({one.model for one in found}) >= 3
    assert any(one.by_difference for one in found)


def check_reason(one: Prediction) -> None:
    """The distances lead to the model."""
    near = one.nearness
    assert near is not None
    first, distance = next(iter(near.experts.items()))
    assert distance == min(near.experts.values())
    if near.own <= near.threshold:
        assert one.model == "own"
    else:
        assert one.model == (f"expert {first}" if distance <= near.radius else "global")
    assert one.answer == one.options[one.scores.index(max(one.scores))]


def test_the_command_answers_a_prompt_and_a_file(
    ran: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = load_task(TASKS[1], seed=0, train_limit=16, test_limit=8).test[0]
    files = [f"{place}.png" for place, _ in enumerate(example.images)]
    for name, image in zip(files, example.images, strict=True):
        image.load().save(tmp_path / name)
    item = {"id": "one", "image": files, "question": example.question, "options": example.options}
    open_item = {"question": "what is it?", "output": "a cup"}
    (tmp_path / "items.json").write_text(json.dumps([item, open_item]))
    arguments = ["predict", str(ran), "--client", "a"]
    assert main([*arguments, "--file", "items.json", "--json"]) == 0
    printed = capsys.readouterr()
    first, second = (json.loads(line) for line in printed.out.splitlines())
    assert first["id"] == "one" and first["expected"] is None and first["right"] is None
    assert first["model"] == f"expert {next(iter(first['distances']['experts']))}" == "expert b"
    assert second["options"] is None and second["expected"] == "a cup" and second["answer"]
    note = "comparing with the 16 prompts that client 'a' trained on"
    assert f"{note}; their features are computed first" in printed.err
    assert main([*arguments, "--file", "items.json", "--json"]) == 0
    printed_now = capsys.readouterr()
    assert printed_now.out == printed.out and f"{note}\n" in printed_now.err
    command = [*arguments, "--prompt", example.question, "--quiet", "--view", "experts-client"]
    command += [f"--image={name}" for name in files]
    assert main([*command, *(f"--option={option}" for option in example.options)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(first["answer"] + "\n") and not printed.err
    assert "expert b: the adapter of client b" in printed.out
    assert "own prompts" in printed.out and "prototypes" in printed.out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"client": "aa"}, "has no client 'aa'. Did you mean 'a'"),
        ({"view": "experts"}, "has no view 'experts'. Did you mean 'expert b' or"),
        ({"options": ["one"]}, "give two or more"),
        ({"prompt": "<image> what?"}, "1 <image> marks for 0 images"),
        ({"file": "x.json"}, "give one of prompt and file"),
        ({"images": ["none.png"]}, "image file none.png does not exist"),
    ],
)
def test_mistakes_are_named(ran: Path, changes: dict[str, Any], message: str) -> None:
    given = {"client": "a", "prompt": "what is it?", **changes}
    with pytest.raises((ConfigError, DataError), match=message):
        fedmosaic.predict(ran, given.pop("client"), given.pop("prompt"), **given)


def test_a_run_without_a_checkpoint(ran: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text((ran / "config.yaml").read_text())
    with pytest.raises(CheckpointError, match="no round is finished"):
        fedmosaic.predict(tmp_path, "a", "what is it?")


def test_a_model_that_takes_no_images(ran: Path, tmp_path: Path, monkeypatch) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    encode = Backbone.encode

    def text_only(self: Backbone, example: Any, answer: bool = True) -> Any:
        if example.id == "prompt":
            raise ModelError(f"{self.name} takes text only")
        return encode(self, example, answer)

    monkeypatch.setattr(Backbone, "encode", text_only)
    with pytest.raises(ModelError, match=r"input: item 0.*takes text only"):
        fedmosaic.predict(ran, "a", "what is it?", images=[tmp_path / "a.png"])


def test_changed_training_items_are_named(tmp_path: Path) -> None:
    items = [{"question": f"number {k}?", "output": str(k)} for k in range(6)]
    (tmp_path / "own.json").write_text(json.dumps(items))
    client = {"name": "a", "model": "miniature/llama-8x96", "tasks": ["own.json"]}
    content = {**TINY, "clients": [client], "data": {"root": str(tmp_path), "public": "none"}}
    content["alignment"] = {"method": "none"}

    def runtime() -> Runtime:
        scenario = Scenario.model_validate({**content, "evaluation": {"others": False}})
        return Runtime(RunSettings(name="own", algorithm="experts", scenario=scenario))

    record = DataRecord.of(runtime())
    folder: Any = SimpleNamespace(path=tmp_path / "run", data_record=lambda: record)
    spec = runtime().scenario.clients[0]
    require_same_prompts(folder, runtime(), spec)
    items[3]["question"] = "number 33?"
    (tmp_path / "own.json").write_text(json.dumps(items))
    with pytest.raises(DataError, match=r"own\.json: item 3: question changed, .*restore the data"):
        require_same_prompts(folder, runtime(), spec)
