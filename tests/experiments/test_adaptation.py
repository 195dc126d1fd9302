"""Measure fast adaptation: where it starts, that the run stays as it is, and interruptions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.errors import CheckpointError, ConfigError, TrainingError
from fedmosaic.experiments import adapt as module
from fedmosaic.experiments.adaptation import mean_curve
from fedmosaic.federation.client import LocalClient
from tiny_scenario import TINY

NEW = ["miniature/caption-0", "miniature/cloze-0"]
ASKED: dict[str, Any] = {"tasks": NEW, "clients": ["a", "d"], "every": 2, "points": 2}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return runs of one round by algorithm, each made once; tests get copies."""
    folder = tmp_path_factory.mktemp("adapt")
    (folder / "tiny.yaml").write_text(
        yaml.safe_dump({**TINY, "rounds": 1, "evaluation": {"every": 0, "others": False}})
    )

    def run(algorithm: str) -> Path:
        options: dict[str, Any] = {
            "workers": 1,
            "trackers": (),
            "progress": False,
            "algorithm": algorithm,
        }
        return Path(fedmosaic.run(folder / "tiny.yaml", out=folder / algorithm, **options).folder)

    return cache(run)


@pytest.fixture
def copied(made: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda algorithm: Path(shutil.copytree(made(algorithm), tmp_path / algorithm))


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the adapters that were measured, in order."""
    found: list[dict[str, Any]] = []
    measured = module.measure

    def measure(runtime: Any, backbone: Any, model: Any, *rest: Any) -> Any:
        found.append(runtime.adapted(backbone.name).state())
        return measured(runtime, backbone, model, *rest)

    monkeypatch.setattr(module, "measure", measure)
    return found


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("algorithm", ["fedmosaic", "feddpa"])
def test_every_client_learns_every_task_and_the_run_stays_as_it_is(
    copied: Callable[[str], Path], states: list[dict[str, Any]], algorithm: str
) -> None:
    folder = copied(algorithm)
    before = content(folder)
    results: list[tuple[Any, ...]] = []
    found = fedmosaic.adapt(
        folder, **ASKED, fresh=True, on_result=lambda *result: results.append(result)
    )
    after = content(folder)
    assert json.loads(after.pop("adaptation.json")) == found
    assert after == before
    assert found["settings"] == {**ASKED, "items": None}
    for kind in ("adapted", "fresh"):
        assert {client: list(curves) for client, curves in found[kind].items()} == {
            "a": NEW,
            "d": NEW,
        }
        assert all(
            len(values) == 3 for curves in found[kind].values() for values in curves.values()
        )
    assert len(results) == 8
    # Once more: there is nothing to do. Without the file: the same again.
    assert (
        fedmosaic.adapt(
            folder, **ASKED, fresh=True, on_result=lambda *result: results.append(result)
        )
        == found
    )
    assert len(results) == 8
    (folder / "adaptation.json").unlink()
    first = states[:12]
    states.clear()
    assert fedmosaic.adapt(folder, **ASKED) == {**found, "fresh": {}}
    assert len(states) == 12
    assert all(
        one[key].equal(other[key]) for one, other in zip(first, states, strict=True) for key in one
    )


def test_it_goes_on_where_it_was_stopped(
    copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("fedavg")
    whole = fedmosaic.adapt(folder, **ASKED)
    (folder / "adaptation.json").unlink()
    trained, turns = LocalClient.trained, iter(range(100))

    def breaks(client: LocalClient) -> Any:
        if next(turns) == 3:
            raise KeyboardInterrupt
        return trained(client)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LocalClient, "trained", breaks)
        fedmosaic.adapt(folder, **ASKED)
    assert len(json.loads((folder / "adaptation.json").read_text())["adapted"]["a"]) == 1
    assert fedmosaic.adapt(folder, **ASKED) == whole


def test_it_starts_from_what_the_server_would_send_next(
    copied: Callable[[str], Path], states: list[dict[str, Any]]
) -> None:
    def starts(algorithm: str, **more: Any) -> list[dict[str, Any]]:
        states.clear()
        fedmosaic.adapt(copied(algorithm), **{**ASKED, "tasks": NEW[:1], **more})
        return states[::3]

    # a and d have one architecture: averaged, they are the same; alone, they are not.
    one, other = starts("fedavg")
    assert all(one[key].equal(other[key]) for key in one)
    one, other, fresh, as_fresh = starts("sft", fresh=True)
    assert not all(one[key].equal(other[key]) for key in one)
    assert all(fresh[key].equal(as_fresh[key]) for key in fresh)
    assert all(value.abs().sum() == 0 for key, value in fresh.items() if key.endswith("B"))
    # ... and it trains: the state after two steps is another.
    assert not all(states[0][key].equal(states[1][key]) for key in states[0])


@pytest.mark.parametrize("algorithm", ["fedmosaic", "ditto", "fedavg", "sft"])
def test_it_can_start_from_what_was_received_alone(
    copied: Callable[[str], Path], states: list[dict[str, Any]], algorithm: str
) -> None:
    asked = {**ASKED, "tasks": NEW[:1], "clients": ["a"]}
    found = fedmosaic.adapt(copied(algorithm), **asked, received=True)
    assert len(found["received"]["a"][NEW[0]]) == 3 and found["fresh"] == {}
    adapted, received = states[0], states[3]
    trained = {key: value for key, value in received.items() if key.startswith("local/")}
    if algorithm in ("fedavg", "sft"):  # what is received is trained on anyway; or there is nothing
        assert all(adapted[key].equal(received[key]) for key in adapted)
    else:  # one's own has given way, what came from the server is the same
        changed = {key for key in adapted if not adapted[key].equal(received[key])}
        assert changed and changed <= set(trained)
        others = {key: received[f"global/{key.removeprefix('local/')}"] for key in changed}
        assert all(received[key].equal(others[key]) for key in changed)


def test_mistakes_are_named(copied: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copied("sft")
    with pytest.raises(ConfigError, match=r"no unseen tasks.*--tasks"):
        fedmosaic.adapt(folder)
    with pytest.raises(ConfigError, match="no client 'x'"):
        fedmosaic.adapt(folder, tasks=NEW, clients=["x"])
    with pytest.raises(ConfigError, match="every = 0"):
        fedmosaic.adapt(folder, tasks=NEW, every=0)
    with (
        monkeypatch.context() as patch,
        pytest.raises(TrainingError, match="client 'a', task 'miniature/caption-0': too high"),
    ):
        patch.setattr(
            LocalClient, "trained", lambda client: (_ for _ in ()).throw(TrainingError("too high"))
        )
        fedmosaic.adapt(folder, **ASKED)
    fedmosaic.adapt(folder, **{**ASKED, "clients": ["a"], "tasks": NEW[:1]})
    with pytest.raises(ConfigError, match="was measured with tasks"):
        fedmosaic.adapt(folder, **ASKED)
    path = folder / "adaptation.json"
    path.write_text(path.read_text().replace("0.", "7.", 1))
    with pytest.raises(CheckpointError, match="is damaged"):
        fedmosaic.adapt(folder, **{**ASKED, "clients": ["a"], "tasks": NEW[:1]})
    (folder / "summary.json").unlink()
    with pytest.raises(CheckpointError, match="has not finished"):
        fedmosaic.adapt(folder, **ASKED)


def test_the_command_shows_means(
    copied: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied("sft")
    arguments = [
        "adapt",
        str(folder),
        "--tasks",
        ",".join(NEW),
        "--clients",
        "a",
        "--every",
        "1",
        "--points",
        "1",
    ]
    assert main([*arguments, "--items", "3", "--fresh", "--received"]) == 0
    shown = capsys.readouterr().out
    assert (
        "a · miniature/caption-0  " in shown
        and "a · miniature/cloze-0 from an untrained adapter  " in shown
    )
    assert (
        "its own adapter" in shown
        and "an untrained adapter" in shown
        and "what it would receive next" in shown
    )
    assert mean_curve({"a": {"x": [0.0, 1.0], "y": [0.5, 0.0]}, "b": {"x": [1.0, 0.5]}}) == [
        0.5,
        0.5,
    ]
