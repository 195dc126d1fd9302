"""Start clients that a server must refuse: one line each, exit status 2, and the run goes on."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.deployment.federation import (
    SCENARIO,
    DeployedFederation,
    differences,
    run_in_process,
)
from benchmarks.deployment.processes import free_port, wait_until
from benchmarks.deployment.program import ProgramProcess, environment

LIMIT_SECONDS = 180.0
# What the last line of each refused client must have.
WORDS = {
    "unregistered key": "does not know this client's key",
    "wrong authority": "not the server of this federation",
    "plain text": "expects TLS",
    "TLS against plain text": "speaks plain text",
    "duplicate": "another process is connected",
    "unknown name": "no client of this federation is named",
    "other model": "come back with another model",
}


def add_refused(federation: DeployedFederation) -> list[str]:
    """Add clients that the server must refuse; return their labels.

    Call it after the server has started: a key that was made later is not registered.
    """
    root = federation.root
    federation.make_keys(root / "other-keys", ["a"])
    keys = [sys.executable, "-m", "fedmosaic", "keys", str(federation.keys), "--add", "late"]
    subprocess.run(keys, env=environment(), check=True, stdout=subprocess.DEVNULL)
    own = federation.content_of("a")
    changes: dict[str, dict[str, Any]] = {
        "unregistered key": {"name": "late"},
        "wrong authority": {"keys": str(root / "other-keys")},
        "plain text": {},
        "duplicate": {},
    }
    for label, change in changes.items():
        content = {**own, **change, "out": str(root / label.replace(" ", "-"))}
        arguments = ["--insecure"] if label == "plain text" else []
        federation.add_client(content, label, arguments=arguments)
    return list(changes)


def refused_line(program: ProgramProcess, label: str, seconds: float = LIMIT_SECONDS) -> str:
    """Return the line with which a refused client has ended.

    Raises:
        AssertionError: another exit status than 2, other words, or no single line.
    """
    status = program.wait(seconds)
    last = [line for line in program.lines().splitlines() if line.startswith("fedmosaic")]
    if status != 2 or len(last) != 1 or WORDS[label] not in last[0]:
        raise AssertionError(f"{label}: exit status {status}\n{program.lines()}")
    return last[0]


def refusals(folder: Path) -> dict[str, Any]:
    """Start clients that must be refused while a federation runs; return their last lines."""
    scenario = {**SCENARIO, "rounds": 6}
    reference = run_in_process(scenario, folder)
    federation = DeployedFederation(folder, scenario, more_keys=["stranger"])
    members = list(federation.clients)
    try:
        for program in (federation.server, federation.clients["a"], federation.clients["b"]):
            program.start()
        wait_until(
            lambda: federation.status().get("waiting_for") == ["c"], LIMIT_SECONDS, "a and b join"
        )
        labels = add_refused(federation)
        content = {**federation.content_of("a"), "name": "stranger", "out": str(folder / "s")}
        federation.add_client(content, "unknown name")
        plain = _plain_server(federation)
        content = {**federation.content_of("a"), "server": plain, "out": str(folder / "t")}
        federation.add_client(content, "TLS against plain text")
        found = {}
        for label in [*labels, "unknown name", "TLS against plain text"]:
            federation.clients[label].start()
            found[label] = refused_line(federation.clients[label], label)
        federation.clients["plain server"].interrupt()
        federation.clients["c"].start()
        wait_until(lambda: federation.status().get("round", 0) > 0, LIMIT_SECONDS, "rounds begin")
        found["other model"] = _other_model(federation)
        federation.wait_for(LIMIT_SECONDS * 3, ["server", *members])
        return {
            "last lines": {label: plain_line(line, folder) for label, line in found.items()},
            "different from the run in one process": differences(federation, reference),
            "processes left": federation.leftovers(),
        }
    finally:
        federation.close()


def plain_line(line: str, folder: Path) -> str:
    """Return a line without the names of this machine's folders and ports."""
    return re.sub(r"127\.0\.0\.1:\d+", "HOST:PORT", line.replace(str(folder), "DIR"))


def _plain_server(federation: DeployedFederation) -> str:
    """Start a server without TLS; return its address."""
    address = f"127.0.0.1:{free_port()}"
    out = federation.root / "plain"
    command = ["fedmosaic", "server", str(federation.file), "--insecure", "--out", str(out)]
    program = ProgramProcess([*command, "--listen", address], federation.root / "plain.log")
    federation.clients["plain server"] = program
    program.start()
    wait_until(lambda: "waiting for" in program.lines(), LIMIT_SECONDS, "the plain server waits")
    return address


def _other_model(federation: DeployedFederation) -> str:
    """Let a client come back with another model, then with its own."""
    program = federation.clients["c"]
    program.kill()
    wrong = ["--model", "miniature/llama-8x96"]
    other = ProgramProcess([*program.command[2:], *wrong], federation.root / "other-model.log")
    federation.clients["other model"] = other
    other.start()
    try:
        return refused_line(other, "other model")
    finally:
        other.kill()
        time.sleep(0.1)
        program.start()
