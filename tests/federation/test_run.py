"""Run the tiny scenario: what it writes, and that repeated and resumed runs are equal."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from short_run import StopAt, files, numbers, start

import fedmosaic
from fedmosaic.adapters import adapter_parameters, read_state
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.fedmosaic import FedMosaic
from fedmosaic.algorithms.message import Message
from fedmosaic.errors import FedMosaicError
from fedmosaic.federation import workers
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.wire import read_tensors
from fedmosaic.memory import peak_memory
from tiny_scenario import TINY


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """Return undisturbed runs of three rounds by algorithm, each made once."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    return cache(
        lambda algorithm: start(folder / "tiny.yaml", folder / algorithm, algorithm=algorithm)
    )


@pytest.mark.parametrize("algorithm", ["fedmosaic", "fedavg", "sft"])
def test_a_run_leaves_what_it_promises(whole: Callable[[str], Any], algorithm: str) -> None:
    run = whole(algorithm)
    assert json.loads((run.folder / "summary.json").read_text()) == json.loads(
        json.dumps(run.summary)
    )
    assert set(run.summary["clients"]) == {"a", "b", "c", "d"}
    for part in ("self", "others"):
        assert 0 <= run.summary[part]["last"] <= 1 and 0 <= run.summary[part]["auc"] <= 1
    assert {"total", "train", "evaluate", "server"} <= set(run.summary["seconds"])
    assert 100e6 < run.summary["memory"] <= peak_memory()
    sent = run.summary["bytes"]
    assert (
        (sent["up"] > 100_000 and sent["down"] > 100_000)
        if algorithm != "sft"
        else sent["up"] < 10_000
    )
    assert sorted(p.name for p in (run.folder / "adapters").iterdir()) == ["a", "b", "c", "d"]
    assert sorted(p.name for p in (run.folder / "checkpoints").iterdir()) == [
        "round-0002",
        "round-0003",
    ]
    assert fedmosaic.show(run.folder) == run.summary
    assert fedmosaic.resume(run.folder, progress=False).summary == run.summary


def test_the_same_seed_gives_the_same_numbers_and_another_does_not(
    tiny: Path, tmp_path: Path
) -> None:
    one, two = (start(tiny, tmp_path / name, seed=1, rounds=2) for name in ("one", "two"))
    assert numbers(one.folder) == numbers(two.folder)
    assert files(one.folder) == files(two.folder)
    three = start(tiny, tmp_path / "three", seed=2, rounds=2)
    assert files(three.folder) != files(one.folder)


def test_workers_give_the_numbers_of_one_process(tiny: Path, tmp_path: Path) -> None:
    single = start(tiny, tmp_path / "alone", rounds=2)
    spread = start(tiny, tmp_path / "spread", rounds=2, workers=2)
    assert numbers(single.folder) == numbers(spread.folder)
    assert files(single.folder) == files(spread.folder)


@pytest.mark.parametrize("algorithm", ["fedmosaic", "fedavg"])
@pytest.mark.parametrize("at", [(0, "b"), (1, "d"), (2, "a")])
def test_an_interrupted_run_goes_on_bit_by_bit(
    tiny: Path, tmp_path: Path, whole: Callable[[str], Any], at: tuple[int, str], algorithm: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(tiny, tmp_path / "cut", algorithm=algorithm, callbacks=[StopAt(*at)])
    if at[0]:
        assert fedmosaic.show(tmp_path / "cut")["rounds"] == {"done": at[0], "of": 3}
    with (tmp_path / "cut" / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "score", "half a li')
    resumed = fedmosaic.resume(tmp_path / "cut", progress=False)
    assert numbers(resumed.folder) == numbers(whole(algorithm).folder)
    assert files(resumed.folder) == files(whole(algorithm).folder)


def test_what_was_aggregated_is_what_the_first_step_starts_from(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[tuple[str, int, str], dict[str, torch.Tensor]] = {}
    sent: dict[tuple[str, int, str], dict[str, torch.Tensor]] = {}
    for kind, adapter in ((FedMosaic, "global"), (FedAvg, "local")):

        def train(self: Any, client: Any, _real: Any = kind.train, _adapter: str = adapter) -> Any:
            seen[self.name, client.round, client.name] = read_state(client.model, _adapter)
            return _real(self, client)

        def download(self: Any, server: Any, member: Any, _real: Any = kind.download) -> Message:
            message = _real(self, server, member)
            sent[self.name, server.round, member.name] = dict(message.tensors)
            return message

        monkeypatch.setattr(kind, "train", train)
        monkeypatch.setattr(kind, "download", download)
        start(tiny, tmp_path / kind.name, algorithm=kind.name, rounds=2)
    for key, tensors in sent.items():
        assert bool(tensors) == (key[1] > 0), key
        for name, value in tensors.items():
            assert torch.equal(seen[key][name], value), (key, name)


def test_the_received_adapter_does_not_train_and_gates_stay_at_home(
    tiny: Path, tmp_path: Path
) -> None:
    run = start(tiny, tmp_path / "run", rounds=1)
    state = read_tensors(run.folder / "checkpoints" / "round-0001" / "clients" / "a.safetensors")[0]
    changed = [
        key
        for key in state
        if key.startswith("adapter/local/block.") and state[key].abs().sum() > 0
    ]
    assert changed
    assert all(
        state[key].abs().sum() == 0 for key in state if key.startswith("adapter/global/block.")
    )
    assert any(key.startswith("adapter/local/gate.") for key in state)
    server = read_tensors(run.folder / "checkpoints" / "round-0001" / "server.safetensors")[0]
    assert server and not any("gate" in key for key in server)


def test_a_nan_update_is_refused_and_the_round_goes_on(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = FedMosaic.upload

    def upload(self: FedMosaic, client: Any) -> Message:
        message = real(self, client)
        if client.name == "b" and client.round == 1:
            name = next(iter(message.tensors))
            return Message({**message.tensors, name: message.tensors[name] * float("nan")})
        return message

    monkeypatch.setattr(FedMosaic, "upload", upload)
    run = start(tiny, tmp_path / "run")
    assert run.summary["refused"] == 1
    rounds = [line for line in numbers(run.folder) if line["kind"] == "round"]
    assert "NaN or Inf" in rounds[1]["refused"]["b"] and not rounds[2]["refused"]


def test_a_client_that_diverges_has_no_update_and_starts_again_from_before(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, bad = FedMosaic.train, (0, 2)

    def train(self: FedMosaic, client: Any) -> Any:
        fitted = real(self, client)
        if client.name == "b" and client.round in bad:
            next(iter(adapter_parameters(client.model, "local").values())).data.fill_(float("nan"))
        return fitted

    monkeypatch.setattr(FedMosaic, "train", train)
    run = start(tiny, tmp_path / "run")
    assert run.summary["refused"] == 2
    rounds = [line for line in numbers(run.folder) if line["kind"] == "round"]
    assert (
        all("client 'b' has no update: 'local/" in rounds[n]["refused"]["b"] for n in bad)
        and not rounds[1]["refused"]
    )
    before, after = (
        read_tensors(run.folder / "checkpoints" / f"round-{n:04d}" / "clients" / "b.safetensors")[0]
        for n in (2, 3)
    )
    own = [key for key in before if key.startswith(("adapter/", "moment/", "kept/"))]
    assert len(own) > 100 and [key for key in own if not torch.equal(before[key], after[key])] == []


def test_a_worker_that_dies_is_told(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []
    real = workers._Worker.__init__
    monkeypatch.setattr(
        workers._Worker, "__init__", lambda self, *a: (made.append(self), real(self, *a))[1]
    )

    class Murderer(Callback):
        def client_finished(self, round_number: int, client: str, report: Any) -> None:
            made[1].process.kill()

    with pytest.raises(
        FedMosaicError,
        match=r"worker process of clients? [a-d, ]+ ended unexpectedly \(exit -9\).*--resume",
    ):
        start(tiny, tmp_path / "run", workers=2, callbacks=[Murderer()])


def test_others_tasks_can_be_measured_on_fewer_items(tiny: Path, tmp_path: Path) -> None:
    own = {client["name"]: set(client["tasks"]) for client in TINY["clients"]}
    items = ["evaluation.others_items=4", "evaluation.items=5", "evaluation.last_items=3"]
    run = start(tiny, tmp_path / "fewer", algorithm="sft", rounds=2, overrides=items)
    scores = [line for line in numbers(run.folder) if line["kind"] == "score"]
    counted = {(line["round"], line["task"] in own[line["client"]], line["n"]) for line in scores}
    assert counted == {(0, True, 5), (0, False, 4), (1, True, 3), (1, False, 3)}


def test_partial_participation_is_seeded(tiny: Path, tmp_path: Path) -> None:
    run = start(tiny, tmp_path / "run", overrides=["participation=0.5"])
    rounds = [line["clients"] for line in numbers(run.folder) if line["kind"] == "round"]
    assert all(len(clients) == 2 for clients in rounds)
    assert len({tuple(clients) for clients in rounds}) > 1
    repeated = start(tiny, tmp_path / "again", overrides=["participation=0.5"])
    assert files(repeated.folder) == files(run.folder)


def test_a_cohort_learns_what_the_same_share_of_clients_does(tiny: Path, tmp_path: Path) -> None:
    found: list[list[Any]] = []
    for name, setting in (("share", "participation=0.5"), ("cohort", "cohort=2")):
        run = start(tiny, tmp_path / name, overrides=[setting])
        lines = [line for line in numbers(run.folder) if line["kind"] == "client"]
        found.append([(line["round"], line["client"], line.get("steps")) for line in lines])
        found.append([line["loss"] for line in lines if line.get("steps")])
    assert found[0] == found[2] and found[1] == pytest.approx(found[3], abs=1e-5)


def test_only_participants_are_evaluated(tiny: Path, tmp_path: Path) -> None:
    overrides = ["cohort=2", "evaluation.clients=participants", "rounds=2", "train.steps=1"]
    run = start(tiny, tmp_path / "run", overrides=overrides, algorithm="sft")
    lines = numbers(run.folder)
    for entry in (line for line in lines if line["kind"] == "round"):
        scored = {
            x["client"] for x in lines if x["kind"] == "score" and x["round"] == entry["round"]
        }
        turns = {
            x["client"] for x in lines if x["kind"] == "client" and x["round"] == entry["round"]
        }
        assert scored == turns == set(entry["clients"])
    measured = {line["client"] for line in lines if line["kind"] == "score"}
    for name, figures in run.summary["clients"].items():
        assert (figures["self"]["last"] is not None) == (name in measured)
