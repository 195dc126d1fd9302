"""Refuse other clients' data and task families to algorithms that are no oracles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fedmosaic
from fedmosaic.algorithms.fedmosaic import FedMosaic
from fedmosaic.algorithms.message import Message
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import ConfigError
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.context import ServerContext
from fedmosaic.federation.instructions import Introduction
from fedmosaic.federation.runtime import Runtime


def runtime_of(tiny: Path, algorithm: str) -> Runtime:
    settings = RunSettings(name="tiny", algorithm=algorithm, scenario=load_scenario(tiny))
    return Runtime(settings)


def server_of(runtime: Runtime) -> ServerContext:
    """Return a server whose clients have introduced themselves with the families of their tasks."""
    introductions = {
        client.name: Introduction(client.model, 8, [client.tasks[0].name], {})
        for client in runtime.scenario.clients
    }
    return ServerContext(runtime, introductions)


def test_only_an_oracle_sees_all_streams(tiny: Path) -> None:
    normal = runtime_of(tiny, "fedmosaic")
    client = LocalClient(normal, normal.scenario.clients[0])
    with pytest.raises(ConfigError, match="fedmosaic asks for the training data of all clients"):
        client.context.all_streams()
    oracle = runtime_of(tiny, "pooled")
    streams = LocalClient(oracle, oracle.scenario.clients[0]).context.all_streams()
    assert set(streams) == {"a", "b", "c", "d"}


def test_only_an_oracle_sees_the_families_of_tasks(tiny: Path) -> None:
    members = server_of(runtime_of(tiny, "fedmosaic")).members
    assert [member.families for member in members] == [()] * 4
    known = server_of(runtime_of(tiny, "fedmosaic-oracle")).members
    assert known[1].families == ("miniature/stages-2",)


def test_only_an_oracles_scenario_holds_tasks_and_groups(tiny: Path) -> None:
    for name, sees in (("fedmosaic", False), ("fedavg", False), ("pooled", True)):
        clients = runtime_of(tiny, name).algorithm.scenario.clients
        assert all(bool(client.tasks) == bool(client.group) == sees for client in clients), name


def test_an_algorithm_that_tries_ends_the_run_before_anything_is_written(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upload(self: FedMosaic, client: Any) -> Message:
        client.all_streams()
        return Message()

    monkeypatch.setattr(FedMosaic, "upload", upload)
    with pytest.raises(ConfigError, match="declares oracle = True"):
        fedmosaic.run(tiny, out=tmp_path / "run", progress=False, trackers=(), workers=1)
    assert not (tmp_path / "run").exists()


def test_what_is_recorded_stands_under_its_name(tiny: Path) -> None:
    server = server_of(runtime_of(tiny, "fedmosaic"))
    server.record("relevance", [[1.0]])
    server.record("relevance", [[0.5]])
    assert server.recorded == {"relevance": [[0.5]]}


@pytest.mark.parametrize("algorithm", ["fedmosaic", "fedavg"])
def test_layers_train_in_few_operations_with_the_same_bits(tiny: Path, algorithm: str) -> None:
    states = []
    for fused in (True, False):
        scenario = load_scenario(tiny, [f"train.fused_layers={fused}"])
        runtime = Runtime(RunSettings(name="tiny", algorithm=algorithm, scenario=scenario))
        client = LocalClient(runtime, runtime.scenario.clients[0])
        with client.turn():
            client.stream.begin_round(0)
            used = [len(client.adapted.fused_layers)]
            report = client.context.fit(3)
            states.append((report.loss, client.adapted.state()))
        layers = client.adapted.backbone.model.config.get_text_config().num_hidden_layers
        assert used == [layers if fused else 0]
    assert states[0][0] == states[1][0]
    assert all(bool((states[1][1][key] == value).all()) for key, value in states[0][1].items())
    assert any(
        value.abs().sum() > 0 for key, value in states[0][1].items() if "P" in key or "B" in key
    )
