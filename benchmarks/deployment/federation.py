"""Run a federation across processes: ``fedmosaic server`` and clients, on ports of loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.deployment.processes import free_port, processes_of, wait_until
from benchmarks.deployment.program import ProgramProcess, environment

TIMINGS = ("seconds", "parts", "memory")
MODELS = {
    "a": ("miniature/llama-8x96", "miniature/stages-0"),
    "b": ("miniature/qwen2-10x112", "miniature/stages-2"),
    "c": ("miniature/llama-12x128", "miniature/idiom-3"),
}
# Three clients with three architectures, whose turns take a moment.
SCENARIO: dict[str, Any] = {
    "title": "three clients at sites of their own",
    "rounds": 3,
    "clients": [
        {"name": name, "model": model, "tasks": [task]} for name, (model, task) in MODELS.items()
    ],
    "data": {"train": 8, "test": 6, "public": "miniature/public", "public_size": 8},
    "adapter": {
        "r": 4,
        "alpha": 8,
        "num_blocks": 2,
        "dropout": 0.1,
        "target_modules": ["q_proj", "down_proj"],
    },
    "train": {"steps": 3, "batch_size": 2, "lr": 2e-3, "lr_shared": 1e-2},
    "relevance": {"every": 2},
    "evaluation": {"every": 1},
    "deployment": {"join_seconds": 300, "prepare_seconds": 300, "round_seconds": 300},
}


class DeployedFederation:
    """Hold a server and its clients, each in a folder of one root.

    Args:
        root: empty folder for all files.
        scenario: content of the scenario's file.
        clients: settings of a client's file by name, over those of the scenario.
        more_keys: names that get keys although they are in no scenario.

    Attributes:
        server: the program of the server.
        clients: the program of each client by name.
    """

    def __init__(
        self,
        root: Path,
        scenario: Mapping[str, Any],
        clients: Mapping[str, Mapping[str, Any]] | None = None,
        more_keys: Sequence[str] = (),
    ) -> None:
        self.root, self.scenario = root, scenario
        self.file, self.keys, self.out = root / "scenario.yaml", root / "keys", root / "server"
        self.file.write_text(yaml.safe_dump(dict(scenario)))
        self.port = free_port()
        names = [client["name"] for client in scenario["clients"]]
        self.make_keys(self.keys, [*names, *more_keys])
        listen = f"127.0.0.1:{self.port}"
        options = ["--keys", str(self.keys), "--out", str(self.out), "--listen", listen]
        command = ["fedmosaic", "server", str(self.file), *options, "--quiet", "--tracker", "none"]
        self.server = ProgramProcess(command, root / "server.log")
        others = [task for client in scenario["clients"] for task in client["tasks"]]
        self.clients: dict[str, ProgramProcess] = {}
        for client in scenario["clients"]:
            name = client["name"]
            content = {"others": list(dict.fromkeys(others)), "out": str(root / name)}
            self.add_client({**client, **content, **(clients or {}).get(name, {})})

    def make_keys(self, folder: Path, names: Sequence[str]) -> None:
        """Make keys with ``fedmosaic keys``."""
        command = [sys.executable, "-m", "fedmosaic", "keys", str(folder)]
        subprocess.run(
            [*command, "--clients", ",".join(names)],
            env=environment(),
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def add_client(
        self,
        content: Mapping[str, Any],
        label: str = "",
        program: Sequence[str] = ("fedmosaic", "client"),
        arguments: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> ProgramProcess:
        """Write a client's file and return its program, which is not started.

        Args:
            content: of the file; the address of the server and the keys are added.
            label: key in ``clients`` and name of the files; default: the client's name.
            program: what is run, before the file.
            arguments: after the file.
            variables: further variables.
        """
        label = label or str(content["name"])
        defaults = {"server": f"127.0.0.1:{self.port}", "keys": str(self.keys)}
        path = self.root / f"{label}.yaml"
        path.write_text(yaml.safe_dump({**defaults, **content}))
        made = ProgramProcess(
            [*program, str(path), *arguments], self.root / f"{label}.log", variables
        )
        self.clients[label] = made
        return made

    def content_of(self, name: str) -> dict[str, Any]:
        """Return the content of a client's file."""
        content: dict[str, Any] = yaml.safe_load((self.root / f"{name}.yaml").read_text())
        return content

    def programs(self) -> dict[str, ProgramProcess]:
        """Return all programs by name."""
        return {"server": self.server, **self.clients}

    def start(self) -> None:
        """Start everything."""
        for program in self.programs().values():
            program.start()

    def status(self) -> dict[str, Any]:
        """Return the status that the server wrote; empty where there is none yet."""
        try:
            found: dict[str, Any] = json.loads((self.out / "status.json").read_text())
            return found
        except (OSError, ValueError):
            return {}

    def events(self) -> list[dict[str, Any]]:
        """Return the events that the server wrote."""
        path = self.out / "events.jsonl"
        text = path.read_text() if path.is_file() else ""
        return [json.loads(line) for line in text.splitlines()]

    def wait_for(self, seconds: float, names: Sequence[str] | None = None) -> None:
        """Wait until the server and clients have ended well.

        Raises:
            AssertionError: one has not ended in time, or failed; the message has its last lines.
        """
        end = time.monotonic() + seconds
        for name, program in self.programs().items():
            if names is not None and name not in names:
                continue
            try:
                status: object = program.wait(max(1.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                status = "none: it runs"
            if status != 0:
                last = "\n".join(program.lines().splitlines()[-15:])
                raise AssertionError(f"{name}: exit status {status}\n{last}")

    def leftovers(self, seconds: float = 10.0) -> list[str]:
        """Return the command lines of processes that are there after some seconds."""
        try:
            wait_until(lambda: not processes_of(self.root), seconds, "all processes end")
        except AssertionError:
            return sorted(processes_of(self.root).values())
        return []

    def close(self) -> None:
        """Kill everything that is left."""
        for program in self.programs().values():
            if program.process is not None:
                program.process.send_signal(signal.SIGCONT)
            program.kill()
        for pid in processes_of(self.root):
            os.kill(pid, signal.SIGKILL)


def run_in_process(scenario: Mapping[str, Any], folder: Path) -> Path:
    """Run a scenario on this machine in one process; return the run's folder."""
    path, out = folder / "reference.yaml", folder / "reference"
    path.write_text(yaml.safe_dump(dict(scenario)))
    command = [sys.executable, "-m", "fedmosaic", "run", str(path), "--out", str(out)]
    subprocess.run(
        [*command, "--quiet", "--tracker", "none"],
        env=environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return out


def metrics_of(run: Path) -> list[str]:
    """Return the lines of a run's metrics without times, sorted."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    plain = [{key: value for key, value in line.items() if key not in TIMINGS} for line in lines]
    return sorted(json.dumps(line, sort_keys=True) for line in plain)


def adapters_of(folders: Mapping[str, Path]) -> dict[str, str]:
    """Return the hash of each file of the adapters, from a folder for each client."""
    return {
        f"{name}/{path.relative_to(folder)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def differences(federation: DeployedFederation, reference: Path) -> list[str]:
    """Return in what a deployed run differs from one in a process; nothing: bit-identical."""
    found = []
    if metrics_of(federation.out) != metrics_of(reference):
        found.append("metrics")
    names = [client["name"] for client in federation.scenario["clients"]]
    own = adapters_of({name: federation.root / name / "adapter" for name in names})
    if own != adapters_of({name: reference / "adapters" / name for name in names}):
        found.append("adapters")
    return found


def trainings_of(folder: Path) -> dict[int, int]:
    """Return how many different updates of each round have left a client's folder.

    A turn that is trained another time has other times in its answer, and so another hash.
    """
    found: dict[int, set[str]] = {}
    for line in (folder / "audit.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["kind"] == "turn" and not entry["error"]:
            found.setdefault(entry["round"] + 1, set()).add(entry["sha256"])
    return {number: len(hashes) for number, hashes in sorted(found.items())}
