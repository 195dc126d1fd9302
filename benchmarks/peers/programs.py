"""Name the programs that are compared: how each is started, and where it writes its results."""

from __future__ import annotations

import ast
import io
import json
import os
import sys
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from benchmarks.peers.prepare import HERE, RUN_SEED, Prepared
from fedmosaic.engines.flower.environment import flower_variables

APP = HERE / "flower_peft"
FLOWER = Path(sys.executable).parent
# Two processes of one thread each, where the others take all cores in turn.
TWO_WORKERS = ["--workers", "2", "--threads", "1"]
ONE_CPU_EACH = " client-resources-num-cpus=1"


@dataclass(frozen=True)
class Program:
    """Describe one way to run the federation.

    Attributes:
        title: its name in tables.
        files: what a user writes for it.
        command: its command line, from the prepared folder and the folder of its results.
        mark: regular expression of the lines that it prints at the end of a round.
        flower: it needs Flower.
    """

    title: str
    files: tuple[Path, ...]
    command: Callable[[Prepared, Path], list[str]]
    mark: str
    flower: bool = False


def settings_for_peers(prepared: Prepared, out: Path) -> dict[str, Any]:
    """Return the scenario's settings under the names of the peers' own configuration."""
    scenario = yaml.safe_load((prepared.folder / "scenario.yaml").read_text())
    return {
        "model": str(prepared.folder / "model"),
        "data": str(prepared.folder / "data"),
        "out": str(out),
        "rounds": scenario["rounds"],
        "clients": prepared.clients,
        "steps": scenario["train"]["steps"],
        "batch-size": scenario["train"]["batch_size"],
        "lr": scenario["train"]["lr"],
        "r": scenario["adapter"]["r"],
        "alpha": scenario["adapter"]["alpha"],
        "eval-batch-size": scenario["evaluation"]["batch_size"],
        "seed": prepared.lora_seed,
    }


def _fedmosaic(*options: str) -> Callable[[Prepared, Path], list[str]]:
    def command(prepared: Prepared, out: Path) -> list[str]:
        line = [sys.executable, "-m", "fedmosaic", "run", "scenario.yaml", "--algorithm", "fedavg"]
        return [*line, "--seed", str(RUN_SEED), "--out", str(out), *options]

    return command


def _flower(resources: str = "") -> Callable[[Prepared, Path], list[str]]:
    def command(prepared: Prepared, out: Path) -> list[str]:
        settings = settings_for_peers(prepared, out)
        config = " ".join(f"{key}={json.dumps(value)}" for key, value in settings.items())
        federation = f"num-supernodes={prepared.clients}{resources}"
        line = [str(FLOWER / "flwr"), "run", str(APP), "--stream"]
        return [*line, "--federation-config", federation, "--run-config", config]

    return command


def _one_process(prepared: Prepared, out: Path) -> list[str]:
    settings = settings_for_peers(prepared, out)
    return [sys.executable, str(APP / "one_process.py"), json.dumps(settings)]


_FLOWER_FILES = tuple(
    APP / name for name in ("pyproject.toml", "task.py", "client_app.py", "server_app.py")
)
_ROUND = r"^round +\d+/"
# A round of Flower ends where the next one begins.
_FLOWER_ROUND = r"\[ROUND (?!1/)\d+/|Strategy execution finished"
PROGRAMS = {
    "fedmosaic": Program("fedmosaic", (HERE / "scenario.yaml",), _fedmosaic(), _ROUND),
    "one_process": Program(
        "PEFT by hand, one process", (APP / "task.py", APP / "one_process.py"), _one_process, _ROUND
    ),
    "flower": Program("Flower + PEFT", _FLOWER_FILES, _flower(), _FLOWER_ROUND, flower=True),
    "fedmosaic_2": Program(
        "fedmosaic, 2 workers", (HERE / "scenario.yaml",), _fedmosaic(*TWO_WORKERS), _ROUND
    ),
    "fedmosaic_together": Program(
        "fedmosaic, train.together=4",
        (HERE / "scenario.yaml",),
        _fedmosaic("--set", "train.together=4"),
        _ROUND,
    ),
    "flower_2": Program(
        "Flower + PEFT, 1 CPU a client",
        _FLOWER_FILES,
        _flower(ONE_CPU_EACH),
        _FLOWER_ROUND,
        flower=True,
    ),
}


def environment(program: Program, home: Path) -> dict[str, str]:
    """Return the environment of a program: no network, nothing left in the user's folders.

    Args:
        program: the program.
        home: folder for what Flower keeps between runs.
    """
    variables = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    if program.flower:
        variables.pop("PYTHONPATH", None)
        variables |= {
            "PATH": f"{FLOWER}{os.pathsep}{variables['PATH']}",
            **flower_variables(home / "flwr"),
        }
    return variables


def missing(program: Program) -> str:
    """Return why a program cannot run here; empty if it can."""
    if not program.flower:
        return ""
    for name in ("flwr", "ray"):
        if find_spec(name) is None:
            return f"{name} is not installed: make peers"
    return ""


def lines_of_code(path: Path) -> int:
    """Count the lines of a file without blank lines, comments and docstrings."""
    text = path.read_text()
    if path.suffix != ".py":
        return sum(bool(line.strip()) and line.strip()[0] != "#" for line in text.splitlines())
    skipped = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in (*skipped, tokenize.ENDMARKER):
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
            node
        ):
            lines -= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return len(lines)
