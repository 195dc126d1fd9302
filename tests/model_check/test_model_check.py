"""Test ``fedmosaic model check``: what it prints, and that it finds what is wrong."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from PIL import Image
from transformers import AutoTokenizer

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.errors import ConfigError, DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import bundled_names
from tests.families import build
from tests.families.sample import sample
from tests.model_check.command import check

MINIATURE = "miniature/llama-8x96"
KEYS = [
    *("family", "ids_equal", "loss_difference", "image_tokens", "adapted", "shared_sites"),
    *("signature", "step", "export", "problems"),
]


def test_a_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    status, found = check(capsys, MINIATURE)
    assert status == 0 and list(found) == KEYS
    assert found.pop("loss_difference") < 1e-5
    assert found.pop("adapted") == {"layers": 8, "share": pytest.approx(0.642, abs=1e-3)}
    sites = found.pop("shared_sites")
    assert len(sites) == 28 and sites[0] == "block.0.q_proj" and sites[-1] == "block.3.down_proj"
    assert found == {
        **{"family": "llava", "ids_equal": True, "image_tokens": 9, "signature": "closed form"},
        **{"step": True, "export": True, "problems": []},
    }


@pytest.mark.parametrize("name", sample(bundled_names(), "miniature/qwen2-10x112"))
def test_bundled_models(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, found = check(capsys, name)
    assert status == 0 and found["ids_equal"] and found["export"]
    assert found["signature"] == "closed form" and found["loss_difference"] < 1e-5


def test_the_table_for_people(capsys: pytest.CaptureFixture[str], llama: Path) -> None:
    assert main(["model", "check", MINIATURE, str(llama), "no/such/model"]) == 1
    shown = capsys.readouterr()
    lines = shown.out.splitlines()
    assert "\x1b" not in shown.out
    rows = [line.split(maxsplit=1) for line in lines if line]
    for name, start in (
        ("family", "llava (llama, clip_vision_model)"),
        ("parameters", "1.4 million in 8 layers"),
        ("weights", "5.5 MB in float32, 2.8 MB in bfloat16 or float16"),
        ("ids", "equal to the model's own"),
    ):
        assert next(row[1] for row in rows if row[0] == name).startswith(start)
    assert "8 of 8 layers, 64.2 % of the parameters: q_proj, k_proj" in shown.out
    assert "vision tower and projector (31.5 %)" in shown.out
    assert "at the ends of 3 blocks" in shown.out  # the tiny model has three layers
    assert lines[-1].startswith("problem: model 'no/such/model' is neither")
    assert f"{MINIATURE}: training step" in shown.err


def test_several_models_share_what_all_have(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gpt2 = build("gpt2", tmp_path / "gpt2")
    status, found = check(capsys, MINIATURE, gpt2, tmp_path)
    assert status == 1 and [one["family"] for one in found] == ["llava", "gpt2", None]
    sites = [f"block.{k}.{role}" for k in range(3) for role in ("o_proj", "up_proj", "down_proj")]
    assert found[0]["shared_sites"] == found[1]["shared_sites"] == sites
    assert found[0]["problems"] == found[1]["problems"] == []
    assert found[1]["export"] and "holds no config.json" in found[2]["problems"][0]
    assert set(map(str, list(found[2].values())[:-1])) == {"None", "False"}


def test_models_without_a_common_site(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, llama: Path
) -> None:
    mamba = build("mamba", tmp_path / "mamba")
    status, found = check(capsys, llama, mamba)
    assert status == 1
    for one in found:
        assert len(one["problems"]) == 1 and "have no adapted module in common" in str(one)
        assert one["shared_sites"] == [] and one["step"] and one["export"]


def test_items_of_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    turns = [{"from": "human", "value": "<image>\nWhich colour?"}, {"from": "gpt", "value": "red"}]
    items = [
        {"id": "seen", "image": "red.png", "conversations": turns},
        {"id": "text", "conversations": [{**turns[0], "value": "Name one."}, turns[1]]},
        {"id": "third", "conversations": [{**turns[0], "value": "Another?"}, turns[1]]},
    ]
    (tmp_path / "data.json").write_text(json.dumps(items))
    model = build("qwen2_vl", tmp_path / "qwen2_vl")
    (tmp_path / "files").mkdir()
    (tmp_path / "data.json").rename(tmp_path / "files" / "data.json")
    words = ("--data", "files/data.json", "--root", tmp_path, "--limit", "2")
    status, found = check(capsys, model, *words)
    assert status == 0 and list(found) == [*KEYS, "items"]
    assert [item["id"] for item in found["items"]] == ["seen", "text"]
    assert [list(item) for item in found["items"]] == [["id", "ids", "labels", "image_tokens"]] * 2
    seen, text = found["items"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    image = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    assert seen["image_tokens"] == found["image_tokens"] == seen["ids"].count(image) > 0
    assert text["image_tokens"] == 0
    for item in found["items"]:
        learned = [label for label in item["labels"] if label != -100]
        assert tokenizer.decode(learned).startswith("red") and len(learned) < 6
        assert len(item["ids"]) == len(item["labels"])
    messages = [{"role": "user", "content": "Name one."}, {"role": "assistant", "content": "red"}]
    assert text["ids"] == tokenizer.apply_chat_template(messages, return_dict=False)


def test_an_item_that_the_model_cannot_take(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, llama: Path
) -> None:
    Image.new("RGB", (60, 40), "red").save(tmp_path / "red.png")
    turns = [{"from": "human", "value": "Which colour?"}, {"from": "gpt", "value": "red"}]
    items = [{"id": "seen", "image": "red.png", "conversations": turns}]
    items.append({"id": "text", "conversations": turns})
    (tmp_path / "data.json").write_text(json.dumps(items))
    status, (found, none) = check(capsys, llama, "no/model/x", "--data", tmp_path / "data.json")
    assert status == 1 and len(found["problems"]) == 1
    assert "'seen' has images" in found["problems"][0] and "vision-language" in str(found)
    assert [item["id"] for item in found["items"]] == ["text"] and none["items"] == []
    assert found["step"] and found["export"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--data", "nowhere.json"], "nowhere.json"),
        (["--limit", "2"], "give it with --data"),
        (["--root", "."], "give it with --data"),
        (["--limit", "0", "--data", "text.json"], "limit of 0"),
        (["--root", "no-folder", "--data", "text.json"], "no-folder"),
        (["--set", "adapter.rank=2"], "adapter.r"),
        (["--set", "train.lr=1"], "unknown key 'train'"),
    ],
)
def test_mistakes_of_the_user(
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text('[{"instruction": "Name one.", "output": "red"}]')
    assert main(["model", "check", MINIATURE, *words]) == 2
    shown = capsys.readouterr()
    assert message in shown.err and not shown.out


def test_settings_of_models_and_adapters(capsys: pytest.CaptureFixture[str], llama: Path) -> None:
    settings = ("adapter.num_blocks=2", "adapter.target_modules=[q_proj]")
    words = [word for setting in settings for word in ("--set", setting)]
    status, found = check(capsys, llama, "--dtype", "bfloat16", "--device", "cpu", *words)
    assert status == 0 and found["shared_sites"] == ["block.0.q_proj", "block.1.q_proj"]
    assert 0 < found["loss_difference"] + 1e-9 < 0.05
    status, found = check(capsys, llama, "--set", "adapter.num_blocks=5")
    assert status == 1 and "3 layers cannot be cut into 5 blocks" in found["problems"][0]
    status, found = check(capsys, llama, "--device", "tpu")
    assert status == 1 and "'tpu' is not a torch device" in found["problems"][0]


def test_what_is_worth_knowing_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build("gemma2", tmp_path / "gemma2")
    turns = [{"from": "system", "value": "Be brief."}, {"from": "human", "value": "Name one."}]
    items = [{"id": "told", "conversations": [*turns, {"from": "gpt", "value": "red"}]}]
    (tmp_path / "data.json").write_text(json.dumps(items))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        (found,) = fedmosaic.check_models(str(model), data=tmp_path / "data.json", progress=False)
    assert not found.problems and found.ids_equal and len(found.items or ()) == 1
    layers, system = found.notes
    assert layers.startswith("it has 3 layers: set adapter.num_blocks to 3 or less")
    assert "has no system role: system texts are written before the first question" in system
    assert capsys.readouterr().err == ""


def test_weights_that_code_reads_directly_are_not_quantised(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = build("mamba", tmp_path / "mamba")
    status, found = check(capsys, model, "--set", "models.quantise=4bit")
    assert status == 0 and found["step"] and found["export"]


def test_from_python(llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (found,) = fedmosaic.check_models(str(llama), progress=False)
    assert found.family == "llama" and not found.problems and found.coverage.layers == 3
    assert found.facts.parameters == found.facts.memory["float32"] // 4
    with pytest.raises(ConfigError, match="--data"):
        fedmosaic.check_models(str(llama), limit=3)
    with pytest.raises(DataError, match="does not exist"):
        fedmosaic.check_models(str(llama), data="nowhere.json")
    assert capsys.readouterr().err == ""


def test_a_processor_is_the_oracle_of_pictures(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The picture's tokens are those of the processor that a user of transformers loads."""
    model = build("smolvlm", tmp_path / "smolvlm")
    _, found = check(capsys, model)
    processor = Backbone.load(str(model)).processor
    out = processor(text=["<image>"], images=[[Image.new("RGB", (448, 336))]])
    assert found["image_tokens"] == list(out["input_ids"][0]).count(processor.image_token_id)
