"""Test ``fedmosaic export``: the model card, what it prints, and that the card's code works."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors import safe_open

import fedmosaic
from fedmosaic.adapters.exported import ExportedLora
from fedmosaic.cli import main
from fedmosaic.errors import ModelError
from fedmosaic.federation.model_card import Base
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.models.backbone import Backbone
from tests.tiny_scenario import TINY

IDS = [[5, 6, 7, 8, 9, 10, 11, 12]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of two rounds without Q; client b is the only one of its architecture."""
    folder = tmp_path_factory.mktemp("export")
    adapter = {**TINY["adapter"], "q": False}
    scenario = {**TINY, "clients": TINY["clients"][1:3], "adapter": adapter, "rounds": 2}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(scenario))
    fedmosaic.run(str(folder / "tiny.yaml"), out=folder / "run", progress=False)
    return folder / "run"


def trained_logits(run: Path, client: str) -> torch.Tensor:
    """Return the logits of a client's gated pair after its last round."""
    opened, settings = RunFolder.open(run)
    clients = InProcess(Runtime(settings), {client})
    latest = opened.latest()
    assert latest is not None
    clients.load(latest / "clients")
    with clients.clients[client].turn(), torch.no_grad():
        logits: torch.Tensor = clients.clients[client].model(input_ids=torch.tensor(IDS)).logits
    return logits


def test_no_q_is_trained_or_saved(run: Path) -> None:
    saved: set[str] = set()
    for path in (run / "adapters").rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            saved |= set(file.keys())
    assert any(name.endswith("colora_P") for name in saved)
    assert not any(name.endswith("colora_Q") for name in saved)


@pytest.mark.parametrize("layout", ["peft", "vllm"])
def test_card_and_terminal(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str
) -> None:
    out = tmp_path / "b-lora"
    arguments = ["export", str(run), "--client", "b", "--for", layout, "--out", str(out)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "q_proj" in printed and "bias        no" in printed and "qwen2-10x112" in printed
    assert ("--max-lora-rank 8" in printed) == (layout == "vllm")
    assert ("export with --for vllm" in printed) == (layout == "peft")
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    card = ModelCard.load(out / "README.md")
    assert card.data.library_name == "peft" and card.data.pipeline_tag == "image-text-to-text"
    assert {"lora", "federated-learning"} <= set(card.data.tags)
    assert "the processors of some models" in card.text
    assert card.data.base_model is None, "a bundled model has no id on the Hub"
    assert all(word in card.text for word in ("client b", "`fedmosaic`", "after 2 of 2 rounds"))
    lines = RunFolder(run).lines()
    score = next(
        line
        for line in lines
        if line["kind"] == "score" and line["client"] == "b" and line["round"] == 1
        if line["task"] == "miniature/stages-2" and line["stage"] == "after"
    )
    row = f"| miniature/stages-2 | own | accuracy | {score['value']:.3f} | {score['n']} |"
    assert row in card.text and "| miniature/idiom-3 | not trained on |" in card.text


def test_the_code_in_the_card_gives_the_logits_of_the_trained_pair(
    run: Path, tmp_path: Path
) -> None:
    fedmosaic.export(run, "b", tmp_path / "b-lora", layout="vllm")
    card = ModelCard.load(tmp_path / "b-lora" / "README.md")
    code = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)[0]
    code = 'import sys\nsys.modules["fedmosaic"] = None  # an import of it fails\n' + code
    code += f"import torch\nprint(model.eval()(input_ids=torch.tensor({IDS})).logits.tolist())"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    logits = torch.tensor(json.loads(done.stdout.splitlines()[-1]))
    torch.testing.assert_close(logits, trained_logits(run, "b"), rtol=1e-5, atol=1e-5)
    plain = Backbone.load("miniature/qwen2-10x112").model(input_ids=torch.tensor(IDS)).logits
    assert not torch.allclose(plain, logits, atol=1e-3)


def test_an_algorithm_on_pefts_own_lora_for_a_server(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**TINY, "clients": TINY["clients"][:1]}))
    run = fedmosaic.run(
        str(tmp_path / "tiny.yaml"), algorithm="sft", rounds=1, out=tmp_path / "run", progress=False
    )
    fedmosaic.export(run.folder, "a", tmp_path / "lora", layout="vllm")
    found = ExportedLora.read(tmp_path / "lora")
    assert found.server_problems() == [] and found.modules == ("down_proj", "q_proj")


def test_nothing_stays_of_a_refused_export(run: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("fedmosaic.adapters.exported.VLLM_RANKS", (4,))
    with pytest.raises(ModelError, match="rank 8 is above 4"):
        fedmosaic.export(run, "b", tmp_path / "lora", layout="vllm")
    assert [path for path in tmp_path.iterdir() if path.name != "cache"] == []


def test_a_base_model_with_a_merged_adapter(run: Path, tmp_path: Path) -> None:
    fedmosaic.export(run, "b", tmp_path / "lora")
    base = Base.of(str(tmp_path / "lora"))
    assert base.adapter == tmp_path / "lora" and not base.published
    assert base.source.place.endswith("qwen2-10x112"), "the model that the adapter is merged into"
    assert base.name == str(tmp_path / "lora"), "on the model alone, the new adapter is wrong"
    hub = Base.of("owner/model@main")
    assert hub.published and hub.source.revision == "main" and hub.name == "owner/model"
