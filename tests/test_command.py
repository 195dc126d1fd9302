"""The command: quick help, clear errors, and a run from start to export."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedmosaic.cli import main
from fedmosaic.models.backbone import Backbone


def test_help_does_not_load_torch() -> None:
    code = "import sys; from fedmosaic.cli import build_parser; build_parser().format_help(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("what", ["algorithms", "scenarios", "models", "datasets"])
def test_lists(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    shown = capsys.readouterr().out
    expected = {
        "algorithms": "fedmosaic",
        "scenarios": "quickstart",
        "models": "8x96",
        "datasets": "reference/<name>",
    }
    assert expected[what] in shown.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "which scenario"),
        (["run", "miniature/quikstart"], "Did you mean 'miniature/quickstart'"),
        (["run", "miniature/quickstart", "--algorithm", "fedmosiac"], "Did you mean 'fedmosaic'"),
        (["run", "miniature/quickstart", "--set", "train.steps=0"], "train.steps = 0"),
        (["run", "miniature/quickstart", "--set", "train.stps=3"], "Did you mean 'steps'"),
        (["run", "--resume", "nowhere"], "not a run folder"),
        (["run", "miniature/quickstart", "--resume", "x"], "leave out scenario"),
        (["show", "nowhere"], "not a run folder"),
        (["miniature", "pretrain", "--out", "x", "--model", "llama-9x96"], "llama-8x96"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert (
        message in error
        and error.startswith("fedmosaic: ")
        and len(error.strip().splitlines()) == 1
    )


def test_a_run_is_shown_and_exported(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "run", tmp_path / "lora"
    assert main(["run", str(tiny), "--out", str(folder), "--rounds", "2", "--workers", "1"]) == 0
    table = capsys.readouterr().out
    assert all(word in table for word in ("self", "others", "mean", "round   2/2", str(folder)))
    assert list((folder / "tensorboard").iterdir())
    assert main(["show", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["algorithm"] == "fedmosaic"

    assert main(["export", str(folder), "--client", "z", "--out", str(out)]) == 2
    assert "has no client 'z'" in capsys.readouterr().err
    assert main(["export", str(folder), "--client", "b", "--to", "lora", "--out", str(out)]) == 0
    assert_same_logits(folder, out)


def assert_same_logits(folder: Path, exported: Path) -> None:
    """The gated pair and the exported LoRA on the same input; the export is loaded by PEFT alone."""
    from peft import PeftModel

    from fedmosaic.config.load import load_scenario
    from fedmosaic.federation.run_folder import RunFolder
    from fedmosaic.federation.runtime import Runtime
    from fedmosaic.federation.transport import InProcess

    opened, settings = RunFolder.open(folder)
    client = next(c for c in settings.scenario.clients if c.name == "b")
    assert load_scenario("miniature/quickstart")
    clients = InProcess(Runtime(settings), {"b"})
    latest = opened.latest()
    assert latest is not None
    clients.load(latest / "clients")
    local = clients.clients["b"]
    backbone = Backbone.load(client.model)
    batch = backbone.collate([backbone.encode(example) for example in local.tasks[0].test[:4]])
    inputs = {"inputs_embeds": backbone.embed(batch), "attention_mask": batch.attention_mask}
    with torch.no_grad():
        with local.turn():
            pair = local.model(**inputs).logits
        plain = backbone.model(**inputs).logits
        lora = PeftModel.from_pretrained(backbone.fork(), str(exported)).eval()(**inputs).logits
    assert torch.allclose(pair, lora, atol=1e-4)
    assert not torch.allclose(pair, plain, atol=1e-3)
