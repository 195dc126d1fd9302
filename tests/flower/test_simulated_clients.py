"""Test a run whose clients answer over a link, without Flower: the numbers are those of any run."""

from __future__ import annotations

import random
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.config import RunSettings
from fedmosaic.config.load import parse
from fedmosaic.distributed.link import Delivery
from fedmosaic.engines.flower import client_app, environment, simulated_clients, simulation
from fedmosaic.errors import ConfigError, DataError, FedMosaicError, Interrupted
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.run import new_run
from tests.federation.short_run import StopAt, files, numbers, start
from tiny_scenario import TINY


class LocalLink:
    """Answer requests in this process, in no particular order.

    Attributes:
        most: the largest number of requests that were under way at one time.
        asked: nodes that were asked, one entry for each request.
        broken: node whose requests are lost together with its process.
    """

    def __init__(self, nodes: int) -> None:
        self.names = [f"node-{number}" for number in range(nodes)]
        self.most = 0
        self.asked: list[str] = []
        self.broken = ""
        self._requests: dict[str, tuple[str, bytes]] = {}
        self._random = random.Random(0)

    def nodes(self) -> set[str]:
        return set(self.names)

    def send(self, node: str, payload: bytes, time_limit: float) -> str:
        request = f"request-{len(self.asked)}"
        self.asked.append(node)
        self._requests[request] = (node, payload)
        self.most = max(self.most, len(self._requests))
        return request

    def receive(self, timeout: float) -> list[Delivery]:
        request = self._random.choice(list(self._requests))
        node, payload = self._requests.pop(request)
        if node == self.broken:
            return [Delivery(node, request, error="ActorDiedError: killed")]
        return [Delivery(node, request, client_app.answer(payload))]

    def close(self) -> None:
        client_app._clients.cache_clear()


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> list[LocalLink]:
    """Let runs use local links; the links of the runs so far."""
    found: list[LocalLink] = []

    def start_link(nodes: int, processes: int, cards: int, log: Path) -> LocalLink:
        found.append(LocalLink(nodes))
        return found[-1]

    monkeypatch.setattr(environment, "require_flower", lambda: None)
    monkeypatch.setattr(simulated_clients, "Simulation", start_link)
    return found


def simulated(scenario: Path, out: Path, **options: Any) -> Any:
    return start(scenario, out, engine="flower", **options)


def recorded(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "config.yaml").read_text())
    return content


def test_the_numbers_are_those_of_one_process(
    tiny: Path, tmp_path: Path, links: list[LocalLink]
) -> None:
    overrides = ["rounds=2"]
    start(tiny, tmp_path / "one", overrides=overrides)
    simulated(tiny, tmp_path / "flower", overrides=overrides)
    assert numbers(tmp_path / "one") == numbers(tmp_path / "flower")
    assert files(tmp_path / "one") == files(tmp_path / "flower")
    (link,) = links
    assert set(link.asked) == {"node-0", "node-1", "node-2", "node-3"}
    assert link.most == simulated_clients.AHEAD
    assert recorded(tmp_path / "flower")["engine"] == "flower"
    assert not (tmp_path / "flower" / ".clients").exists()


def test_an_interrupted_run_continues_with_its_engine(
    tiny: Path, tmp_path: Path, links: list[LocalLink]
) -> None:
    overrides = ["rounds=3", "participation=0.5", "train.together=2"]
    start(tiny, tmp_path / "one", overrides=overrides)
    with pytest.raises(Interrupted):
        stops = [StopAt(1, name) for name in "abcd"]  # whoever takes part first
        simulated(tiny, tmp_path / "flower", overrides=overrides, callbacks=stops)
    fedmosaic.resume(tmp_path / "flower", progress=False)
    assert len(links) == 2
    assert without_counts(tmp_path / "one") == without_counts(tmp_path / "flower")
    assert files(tmp_path / "one") == files(tmp_path / "flower")
    fedmosaic.resume(tmp_path / "flower", progress=False)  # it has finished
    assert len(links) == 2


def without_counts(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics without operations, which a group of clients divides otherwise."""
    return [{k: v for k, v in line.items() if k != "flops"} for line in numbers(folder)]


def test_a_client_that_diverges_is_refused_as_always(
    tiny: Path, tmp_path: Path, links: list[LocalLink]
) -> None:
    with pytest.raises(FedMosaicError, match=r"round 0: no usable update\. .*train\.lr"):
        simulated(tiny, tmp_path / "flower", overrides=["train.lr=1e30", "train.lr_shared=1e30"])


def test_an_error_of_a_client_and_its_warnings_are_those_of_the_run(
    tiny: Path, tmp_path: Path, links: list[LocalLink], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: LocalClient, *_: Any) -> Any:
        if self.name == "c":
            raise DataError("c: item 3 cannot be read")
        warnings.warn(f"{self.name} is slow", stacklevel=1)
        return work(self, *_)

    work = LocalClient.work
    monkeypatch.setattr(LocalClient, "work", broken)
    with (
        pytest.warns(UserWarning, match=r"^[abd] is slow$"),
        pytest.raises(DataError, match=r"^c: item 3 cannot be read$"),
    ):
        simulated(tiny, tmp_path / "flower")
    assert not (tmp_path / "flower" / ".clients").exists()


class Breaks(Callback):
    """Let the process of a node die after the first round."""

    def __init__(self, links: list[LocalLink], node: str) -> None:
        self.links, self.node = links, node

    def round_finished(self, *_: Any) -> None:
        self.links[0].broken = self.node


def test_a_client_whose_process_died_is_named(
    tiny: Path, tmp_path: Path, links: list[LocalLink]
) -> None:
    with pytest.raises(FedMosaicError, match=r"process of client c ended .*--resume.*ActorDied"):
        simulated(
            tiny, tmp_path / "flower", overrides=["rounds=2"], callbacks=[Breaks(links, "node-2")]
        )


def test_no_other_call_runs_the_clients_itself(tiny: Path, tmp_path: Path) -> None:
    """A run that records another engine than it had would mislead."""
    settings = parse(RunSettings, {"name": "tiny", "engine": "flower", "scenario": TINY}, "run")
    with pytest.raises(ConfigError, match=r"engine: flower needs fedmosaic\.run"):
        new_run(settings, tmp_path / "out")


@pytest.mark.parametrize(
    ("processes", "cards", "share"), [(2, 0, 0), (2, 4, 1), (4, 4, 1), (3, 2, 0.5), (8, 2, 0.25)]
)
def test_processes_share_cards_evenly(processes: int, cards: int, share: float) -> None:
    found = simulation.backend_config(processes, cards, Path("ray"))
    assert found["init_args"]["num_cpus"] == processes and found["init_args"]["num_gpus"] == cards
    assert found["client_resources"] == {"num_cpus": 1, "num_gpus": share}


def test_a_program_that_uses_ray_is_not_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    used = ModuleType("ray")
    used.is_initialized = lambda: True  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", used)
    with pytest.raises(ConfigError, match="which runs in this process already"):
        simulation.Simulation(1, 1, 0, Path("log"))


def test_a_run_continues_with_the_engine_that_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--resume", str(tmp_path), "--engine", "flower"]) == 2
    assert "leave out engine" in capsys.readouterr().err
