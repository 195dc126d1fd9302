"""Test a whole deployment from the command line: TLS, keys, refusals, Ctrl-C, the same numbers.

The tests of this file look at one federation, whose server and three clients are programs of their
own. While the server waits for the last client, clients come that it must refuse, and a client is
interrupted; in the rounds the server is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytest.importorskip("flwr")

from benchmarks.deployment.federation import SCENARIO, DeployedFederation, differences, trainings_of
from benchmarks.deployment.processes import listening_addresses, processes_of, wait_until
from benchmarks.deployment.refused_clients import add_refused, refused_line
from fedmosaic import run

pytestmark = pytest.mark.deployment

LIMIT_SECONDS = 120.0
REFUSED = ("unregistered key", "duplicate")


@dataclass
class Deployment:
    """Hold what was seen of the federation.

    Attributes:
        federation: has ended.
        reference: folder of the same run in one process.
        listening: addresses where its processes listened.
        refused: last line of each refused client.
        interrupted: exit status after Ctrl-C, and the processes that were left.
        outputs: what the interrupted programs had printed.
    """

    federation: DeployedFederation
    reference: Path
    listening: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    interrupted: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)

    def interrupt(self, name: str) -> None:
        """Interrupt a program, note what came of it, and start it with the same command."""
        program = self.federation.programs()[name]
        status = program.interrupt()
        self.interrupted[name] = status, sorted(processes_of(self.federation.root / name).values())
        self.outputs[name] = program.lines()
        program.start()


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    root = tmp_path_factory.mktemp("deployment")
    made = Deployment(DeployedFederation(root, SCENARIO), root / "reference")
    try:
        _undergo(made)
        run(made.federation.file, out=made.reference, progress=False, trackers=[])
        yield made
    finally:
        made.federation.close()


def _undergo(made: Deployment) -> None:
    federation = made.federation
    clients = dict(federation.clients)
    federation.server.start()
    clients["a"].start()
    clients["b"].start()

    def waiting_for() -> list[str]:
        found: list[str] = federation.status().get("waiting_for", [])
        return found

    wait_until(lambda: waiting_for() == ["c"], LIMIT_SECONDS, "a and b join")
    refused = [label for label in add_refused(federation) if label in REFUSED]
    made.listening = listening_addresses(processes_of(root_of(made)))
    for label in refused:
        federation.clients[label].start()
    made.refused = {
        label: refused_line(federation.clients[label], label, LIMIT_SECONDS) for label in refused
    }
    made.interrupt("a")
    clients["c"].start()
    wait_until(lambda: federation.status().get("round", 0) > 0, LIMIT_SECONDS, "rounds begin")
    made.interrupt("server")
    federation.wait_for(LIMIT_SECONDS, ["server", *clients])


def root_of(made: Deployment) -> Path:
    return made.federation.root


def test_the_numbers_are_those_of_one_process(deployment: Deployment) -> None:
    assert differences(deployment.federation, deployment.reference) == []
    metrics = (deployment.reference / "metrics.jsonl").read_text()
    assert metrics.count('"kind": "round"') == SCENARIO["rounds"]


def test_no_turn_is_trained_twice(deployment: Deployment) -> None:
    for name in "abc":
        counts = trainings_of(root_of(deployment) / name)
        assert counts == {number + 1: 1 for number in range(SCENARIO["rounds"])}


@pytest.mark.parametrize("label", REFUSED)
def test_a_stranger_is_refused_with_one_line(deployment: Deployment, label: str) -> None:
    assert deployment.refused[label].startswith("fedmosaic")
    assert deployment.federation.clients[label].status() == 2


@pytest.mark.parametrize("name", ["server", "a"])
def test_an_interrupted_program_leaves_no_process(deployment: Deployment, name: str) -> None:
    assert deployment.interrupted[name] == (130, [])
    assert "Traceback" not in deployment.outputs[name]


def test_nothing_listens_beyond_loopback(deployment: Deployment) -> None:
    assert deployment.listening
    assert all(address.startswith("0100007F:") for address in deployment.listening)


def test_no_process_is_left(deployment: Deployment) -> None:
    assert deployment.federation.leftovers() == []


def test_the_status_is_that_of_a_finished_federation(deployment: Deployment) -> None:
    found = deployment.federation.status()
    assert (found["state"], found["round"]) == ("finished", SCENARIO["rounds"])
    assert all(site["round"] == SCENARIO["rounds"] for site in found["sites"].values())
    lines = (root_of(deployment) / "server" / "events.jsonl").read_text().splitlines()
    assert any("stopped" in json.loads(line)["text"] for line in lines)
