"""Check the command: quick help, clear errors, lists, and a run from start to export."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmosaic.algorithms import PRESETS, algorithm_class, algorithm_names, describe
from fedmosaic.cli import COMMANDS, build_parser, main
from fedmosaic.cli.data import ACTIONS
from fedmosaic.models import chat
from fedmosaic.models.backbone import Backbone

FINISHED = Path(__file__).parent / "federation" / "former_run"
HEAVY = ("torch", "transformers", "peft", "numpy", "matplotlib", "pydantic", "rich", "jinja2")


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = f"""
import contextlib, io, sys, time
start = time.process_time()
from fedmosaic.cli import COMMANDS, main
for words in [["--help"], *([name, "--help"] for name in COMMANDS)]:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as shown:
        main(words)
    assert "usage: fedmosaic" in shown.getvalue(), words
print([name for name in {HEAVY} if name in sys.modules], time.process_time() - start)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    loaded, seconds = done.stdout.rsplit(maxsplit=1)
    assert loaded == "[]" and float(seconds) < 1


def test_lists_and_tables_need_no_pytorch(tmp_path: Path) -> None:
    """Cover what a user types between runs; a run's settings are written before, too."""
    shutil.copytree(FINISHED, tmp_path / "run")
    code = f"""
import contextlib, io, sys
import fedmosaic, fedmosaic.api.runs
from fedmosaic.cli import main
words = [["list", kind] for kind in ("algorithms", "scenarios", "models", "datasets")]
words += [["show", {str(tmp_path / "run")!r}], ["show", "nowhere"], ["run", "nowhere"]]
words += [["run", "--resume", "nowhere"], ["run"]]
shown = io.StringIO()
with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
    status = [main(given) for given in words]
heavy = ("torch", "transformers", "peft", "pandas", "pyarrow", "matplotlib", "tokenizers")
print(status, [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[0, 0, 0, 0, 0, 2, 2, 2, 2] []\n", done.stderr


def test_algorithms_are_listed_as_their_classes_say() -> None:
    for name in algorithm_names():
        kind = algorithm_class(name)
        summary = PRESETS[name].summary if name in PRESETS else kind.summary
        assert describe(name) == (name, summary, kind.paper)


def test_every_command_and_option_has_a_help() -> None:
    parsers = [build_parser()]
    for parser in parsers:
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
                assert {choice.dest for choice in action._choices_actions} == set(action.choices)
            else:
                assert action.help and not action.help.endswith("."), action
        assert parser.description and parser.description.endswith("."), parser.prog
    assert len(parsers) == len(COMMANDS) + 3 + len(ACTIONS)
    assert all(status in parsers[0].format_help() for status in ("0 on", "1 if", "2 for", "130"))


def test_warnings_of_the_package_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def handle(_: argparse.Namespace) -> int:
        for place in (chat.__file__, "elsewhere.py"):
            print(warnings.formatwarning("look here", UserWarning, place, 7), end="")
        return 0

    monkeypatch.setattr("fedmosaic.cli.list.handle", handle)
    whole = warnings.formatwarning
    assert main(["list", "models"]) == 0 and warnings.formatwarning is whole
    assert capsys.readouterr().out.splitlines() == [
        "warning: look here",
        "elsewhere.py:7: UserWarning: look here",
    ]


@pytest.mark.parametrize("words", [[], ["ran"], ["run", "--sed", "1"], ["list", "algorithm"]])
def test_what_argparse_refuses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2 and "usage: fedmosaic" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("algorithms", {"name": "sft", "paper": "LoRA, Hu et al. 2022 (arXiv 2106.09685)"}),
        ("scenarios", {"name": "miniature/quickstart", "clients": 4, "rounds": 5}),
        ("models", {"name": "miniature/llama-8x96", "layers": 8, "width": 96}),
        ("datasets", {"name": "<Dataset>-<k>", "count": None}),
    ],
)
def test_lists(kind: str, expected: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind, "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry for entry in entries if entry.items() >= expected.items()]
    assert main(["list", kind]) == 0
    shown = capsys.readouterr().out
    lines = shown.splitlines()
    assert all(any(line.startswith(entry["name"]) for line in lines) for entry in entries)
    assert "\x1b" not in shown and "…" not in shown


def test_a_narrow_terminal_shows_whole_names() -> None:
    """Run the command on a real terminal of 40 columns; a pipe would not limit the width."""
    pty = pytest.importorskip("pty")
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "fedmosaic", "list", "scenarios"]
    environment = {**os.environ, "COLUMNS": "40", "TERM": "xterm"}
    with subprocess.Popen(command, stdout=writer, env=environment) as process:
        os.close(writer)
        chunks = []
        with contextlib.suppress(OSError):  # Linux reports the end of a terminal as an error
            while chunk := os.read(reader, 4096):
                chunks.append(chunk)
    os.close(reader)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", b"".join(chunks).decode())
    lines = shown.splitlines()
    assert process.returncode == 0 and "drake/hetero-llama-3b-qwen-1.5b-3b" in lines
    assert all(len(line) <= 40 for line in lines)


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
    assert not set(table) & {"\x1b", "\r"}  # lines in a pipe hold no control characters
    assert list((folder / "tensorboard").iterdir())
    assert main(["show", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["algorithm"] == "fedmosaic"
    (folder / "summary.json").unlink()  # as if the run had not finished
    assert main(["show", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rounds"] == {"done": 2, "of": 2}

    assert main(["export", str(folder), "--client", "z", "--out", str(out)]) == 2
    assert "has no client 'z'" in capsys.readouterr().err
    assert main(["export", str(folder), "--client", "b", "--to", "lora", "--out", str(out)]) == 0
    assert_same_logits(folder, out)


def assert_same_logits(folder: Path, exported: Path) -> None:
    """Compare the gated pair with the exported LoRA, which PEFT loads alone, on the same input."""
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
    batch = backbone.collate(
        [backbone.encode(example) for example in local.stream.tasks[0].test[:4]]
    )
    inputs = batch.inputs
    with torch.no_grad():
        with local.turn():
            pair = local.model(**inputs).logits
        plain = backbone.model(**inputs).logits
        lora = PeftModel.from_pretrained(backbone.fork(), str(exported)).eval()(**inputs).logits
    assert torch.allclose(pair, lora, atol=1e-4)
    assert not torch.allclose(pair, plain, atol=1e-3)
