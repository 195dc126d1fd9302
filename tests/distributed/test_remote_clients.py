"""Test that clients at sites of their own give the numbers of one process, whatever goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from federation_of_sites import NAMES, Server, new_site, new_sites, with_limits
from local_link import LocalLink

import fedmosaic
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.distributed.messages import SiteRequest, encode
from fedmosaic.errors import SiteError
from fedmosaic.federation.run_folder import RunFolder
from tiny_scenario import TINY

TIMES = ("seconds", "parts", "memory")


def numbers(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIMES} for line in lines]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunSettings, Path]:
    """Return the settings of an undisturbed run in one process, and its folder."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    scenario = {
        **TINY,
        "clients": [client for client in TINY["clients"] if client["name"] in NAMES],
        "evaluation": {"every": 1, "items": 2, "others": False},
    }
    fedmosaic.run(
        Scenario.model_validate(scenario), out=folder, progress=False, trackers=(), workers=1
    )
    return RunFolder.open(folder)[1], folder


def states(folder: Path) -> dict[str, bytes]:
    """Return the files of states after the last round, by client."""
    found = {}
    for name in NAMES:
        [path] = (folder / "sites" / name).glob("sessions/*/rounds/round-000002/state.safetensors")
        found[name] = path.read_bytes()
    return found


def expected_states(reference: Path) -> dict[str, bytes]:
    clients = reference / "checkpoints/round-0003/clients"
    return {name: (clients / f"{name}.safetensors").read_bytes() for name in NAMES}


def test_sites_give_the_numbers_of_one_process(
    reference: tuple[RunSettings, Path], tmp_path: Path
) -> None:
    settings, folder = reference
    link = LocalLink(new_sites(settings, tmp_path / "sites"))
    server = Server(with_limits(settings), tmp_path / "server", link)
    server.run()
    assert numbers(tmp_path / "server") == numbers(folder)
    assert states(tmp_path) == expected_states(folder)
    for name in NAMES:
        made, plain = tmp_path / "sites" / name / "adapter", folder / "adapters" / name
        for file in plain.rglob("*.safetensors"):
            assert (made / file.relative_to(plain)).read_bytes() == file.read_bytes()


def count(kind: str, link: LocalLink) -> int:
    return sum(request.kind == kind for _, request in link.sent)


FAULTS: dict[str, Callable[[int, str, SiteRequest], str]] = {
    "lost requests": lambda at, node, request: (
        "lose request" if request.kind == "turn" and at == 1 else ""
    ),
    "lost answers": lambda at, node, request: (
        "lose answer" if request.kind == "turn" and at == 1 else ""
    ),
    "answers that come twice": lambda at, node, request: "twice",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_lost_and_repeated_messages_change_nothing(
    reference: tuple[RunSettings, Path], tmp_path: Path, fault: str
) -> None:
    settings, folder = reference
    seen: dict[tuple[str, str, Any], int] = {}

    def wrong(link: LocalLink, node: str, request: SiteRequest) -> str:
        key = (node, request.kind, request.header.get("round"))
        seen[key] = seen.get(key, 0) + 1
        return FAULTS[fault](seen[key], node, request)

    link = LocalLink(new_sites(settings, tmp_path / "sites"), wrong)
    Server(with_limits(settings), tmp_path / "server", link).run()
    assert numbers(tmp_path / "server") == numbers(folder)
    assert states(tmp_path) == expected_states(folder)
    if fault != "answers that come twice":
        assert count("turn", link) >= 2 * 9 and count("inquire", link) >= 9


@pytest.mark.parametrize("moment", ["before it trains", "in training", "after it trained"])
def test_a_site_that_was_killed_goes_on(
    reference: tuple[RunSettings, Path],
    tmp_path: Path,
    moment: str,
) -> None:
    settings, folder = reference
    made = new_sites(settings, tmp_path / "sites")
    killed: list[str] = []

    def kill(link: LocalLink, node: str, request: SiteRequest) -> str:
        if request.kind != "turn" or request.header["round"] != 1 or node in killed:
            return ""
        if node != "node-b":
            return ""
        killed.append(node)
        site = made[node]
        if moment == "in training":
            site._run.client_before(1, 0)  # half a turn: its state is gone from memory
        if moment == "after it trained":
            with link.lock:
                site(encode(request))
        link.disconnect(node)
        link.connect(node, new_site(settings, "b", tmp_path / "sites"))
        return "lose request"

    link = LocalLink(made, kill)
    Server(with_limits(settings), tmp_path / "server", link).run()
    assert killed == ["node-b"]
    assert numbers(tmp_path / "server") == numbers(folder)
    assert states(tmp_path) == expected_states(folder)


@pytest.mark.parametrize("moment", ["while waiting", "in aggregation", "in a checkpoint"])
def test_a_server_that_was_killed_goes_on_without_training_twice(
    reference: tuple[RunSettings, Path], tmp_path: Path, moment: str
) -> None:
    settings, folder = reference
    link = LocalLink(new_sites(settings, tmp_path / "sites"))
    server = Server(with_limits(settings), tmp_path / "server", link)
    loop = server.loop()

    class Killed(BaseException):
        pass

    def die(*_: Any) -> Any:
        raise Killed

    def dying_fault(link: LocalLink, node: str, request: SiteRequest) -> str:
        return "lose answer" if request.kind == "turn" and request.header["round"] == 1 else ""

    def waits() -> None:
        if all(trained(tmp_path, name) == 2 for name in NAMES):
            raise Killed

    if moment == "while waiting":
        link.fault = dying_fault
        loop._round(0)
        server.courier.each_tick = waits
    elif moment == "in aggregation":
        loop._round(0)
        loop.algorithm.aggregate = die  # type: ignore[method-assign]
    else:
        loop._round(0)
        loop.transport.save = die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        loop.run()
    link.fault = None
    second = Server(with_limits(settings), tmp_path / "server", link)
    before = {node: trained(tmp_path, node) for node in NAMES}
    second.run()
    assert numbers(tmp_path / "server") == numbers(folder)
    assert states(tmp_path) == expected_states(folder)
    assert before == dict.fromkeys(NAMES, 2)  # round 1 had been trained, and was not trained again


def trained(folder: Path, name: str) -> int:
    """Return how many turns a site has on disk."""
    return len(list((folder / "sites" / name).rglob("turn.json")))


def test_a_site_that_hangs_does_not_stop_the_others(
    reference: tuple[RunSettings, Path], tmp_path: Path
) -> None:
    settings, _ = reference

    def hang(link: LocalLink, node: str, request: SiteRequest) -> str:
        return "lose request" if node == "node-d" and request.header.get("round", 0) >= 1 else ""

    link = LocalLink(new_sites(settings, tmp_path / "sites"), hang)
    server = Server(
        with_limits(settings, round_seconds=6, min_updates=2), tmp_path / "server", link
    )
    server.run()
    rounds = [line for line in numbers(tmp_path / "server") if line["kind"] == "round"]
    assert "d" not in rounds[0]["refused"]
    assert "no answer within 6 s" in rounds[1]["refused"]["d"]
    status = json.loads((tmp_path / "server/status.json").read_text())
    assert status["sites"]["d"]["missed"] == 2


def test_too_few_updates_stop_the_run_and_it_can_be_continued(
    reference: tuple[RunSettings, Path], tmp_path: Path
) -> None:
    settings, folder = reference

    def hang(link: LocalLink, node: str, request: SiteRequest) -> str:
        return "lose request" if request.header.get("round") == 1 and node > "node-a" else ""

    link = LocalLink(new_sites(settings, tmp_path / "sites"), hang)
    short = with_limits(settings, round_seconds=3, min_updates=3, repeats=1)
    server = Server(short, tmp_path / "server", link)
    with pytest.raises(SiteError, match=r"has 1 updates and needs 3; none from b, d"):
        server.run()
    assert any("waiting 3 s more for b, d" in line for line in server.lines)
    link.fault = None
    Server(with_limits(settings), tmp_path / "server", link).run()
    assert numbers(tmp_path / "server") == numbers(folder)
