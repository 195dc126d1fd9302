"""Run the commands of the guide "Across machines" as its reader would, and check deploy/."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedmosaic.cli import build_parser

pytest.importorskip("cryptography")

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "deployment.md").read_text()
# The guide's example, shorter: the numbers of rounds and steps are not its subject.
SHORT = [
    *("rounds=2", "train.steps=2", "algorithms.fedmosaic.steps=2", "relevance.every=2"),
    *("evaluation.items=4", "evaluation.last_items=4", "deployment.join_seconds=300"),
]
TIMES = ("seconds", "parts", "memory")


def block(name: str) -> str:
    """Return the commands of a terminal of the guide."""
    found = re.search(
        rf"<!-- not run: in the terminal of the {name}, .*? -->\n```bash\n(.*?)```", GUIDE, re.S
    )
    assert found is not None, name
    return found[1]


def first_commands() -> str:
    found = re.search(r"```bash\n(fedmosaic split.*?)```", GUIDE, re.S)
    assert found is not None
    more = " ".join(f"--set {one}" for one in SHORT)
    return found[1].replace("--out federation\n", f"--out federation {more}\n")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def shell(commands: str, folder: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Run commands as a session of their own, which is ended as a whole."""
    text = commands.replace("server.yaml", f"server.yaml --listen 127.0.0.1:{port}")
    text = text.replace("$name.yaml", f"$name.yaml --server 127.0.0.1:{port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    variables = {"FEDMOSAIC_CACHE": str(folder / "cache"), "PATH": path}
    program = f'fedmosaic() {{ "{sys.executable}" -m fedmosaic "$@"; }}\nset -e\n{text}'
    process = subprocess.Popen(
        ["bash", "-c", program],
        cwd=folder,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def output(commands: str, folder: Path, port: int, seconds: float) -> str:
    with shell(commands, folder, port) as process:
        text, _ = process.communicate(timeout=seconds)
        assert process.returncode == 0, text
        return text


def numbers(folder: Path) -> list[str]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    plain = [{key: value for key, value in line.items() if key not in TIMES} for line in lines]
    return sorted(json.dumps(line, sort_keys=True) for line in plain)


@pytest.mark.deployment
def test_the_guide_gives_the_numbers_of_a_simulation(tmp_path: Path) -> None:
    port = free_port()
    output(first_commands(), tmp_path, port, 120)
    with shell(block("server"), tmp_path, port) as server:
        output(block("clients"), tmp_path, port, 400)
        text, _ = server.communicate(timeout=120)
        assert server.returncode == 0, text
    short = " ".join(f"--set {one}" for one in SHORT)
    run = f"fedmosaic run miniature/quickstart -q --tracker none --out simulated {short}"
    output(run, tmp_path, port, 200)
    served = tmp_path / "federation" / "run"
    assert numbers(served) == numbers(tmp_path / "simulated")
    for name in ("client-0", "client-1", "client-2", "client-3"):
        files = sorted((tmp_path / "simulated" / "adapters" / name).rglob("*.safetensors"))
        assert files
        for file in files:
            own = tmp_path / "federation" / "sites" / name / "adapter"
            path = own / file.relative_to(tmp_path / "simulated" / "adapters" / name)
            assert path.read_bytes() == file.read_bytes()
    after = output(block("operator"), tmp_path, port, 60)
    assert "finished, round 2 of 2" in after
    assert after.count("turn") == 2 and "28 colora" in after
    asked = output(block("site"), tmp_path, port, 120)
    assert "scores" in asked and (tmp_path / "client-0-lora" / "adapter_config.json").is_file()


@pytest.mark.parametrize("example", re.findall(r"   ```yaml\n(.*?)   ```", GUIDE, re.S))
def test_the_files_of_the_guide_are_valid(example: str) -> None:
    from fedmosaic.config import Scenario, SiteSettings

    content = yaml.safe_load(example)
    kind: Any = SiteSettings if "name" in content else Scenario
    assert kind.model_validate(content)


def commands_of(path: Path) -> list[list[str]]:
    """Return the fedmosaic commands in a file of deploy/."""
    if path.suffix == ".service":
        found = re.findall(r"^ExecStart=\S*/fedmosaic (.*)$", path.read_text(), re.M)
        return [shlex.split(one) for one in found]
    parts = list(yaml.safe_load_all(path.read_text()))
    if path.name == "compose.yaml":
        return [service["command"] for service in parts[0]["services"].values()]
    sets = [part for part in parts if part["kind"] == "StatefulSet"]
    return [c["args"] for one in sets for c in one["spec"]["template"]["spec"]["containers"]]


FILES = [
    path
    for pattern in ("compose.yaml", "systemd/*", "kubernetes/*")
    for path in sorted((ROOT / "deploy").glob(pattern))
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_commands_of_deploy_are_valid(path: Path) -> None:
    found = commands_of(path)
    assert found
    for arguments in found:
        assert build_parser().parse_args(arguments).command in ("server", "client")
