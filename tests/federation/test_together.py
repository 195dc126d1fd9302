"""Test that clients that train as one batch get the numbers of training one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fedmosaic.adapters.fused_layers import TrainedLayer
from fedmosaic.algorithms import Message
from fedmosaic.algorithms.fedmosaic import FedMosaic
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import parse
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.grouping import groups_of, obstacle, warn_of_obstacles
from fedmosaic.federation.instructions import ClientResult, Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.together import JointModel
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import pack
from fedmosaic.training import together as training
from tiny_scenario import TINY

LLAMA, QWEN, LARGE = (
    "miniature/llama-8x96",
    "miniature/qwen2-10x112",
    "miniature/llama-12x128",
)
TASKS = ("miniature/stages-0", "miniature/idiom-3", "miniature/stages-2")
NOTHING = pack(Message())


def federation(
    algorithm: str, architectures: tuple[str, ...], together: int, **sections: Any
) -> InProcess:
    """Return the clients of a federation, named by letters, with models of these architectures."""
    content = {
        key: dict(value) if isinstance(value, dict) else value for key, value in TINY.items()
    }
    content["clients"] = [
        {"name": name, "model": model, "tasks": [task]}
        for name, model, task in zip("abc", architectures, TASKS, strict=False)
    ]
    content["relevance"] = {"every": 2, "model": LLAMA}
    content["evaluation"] = {"items": 3, "others": False}
    content["train"] |= {"steps": 3, "together": together}
    for section, values in sections.items():
        if isinstance(values, dict):
            content.setdefault(section, {}).update(values)
        else:
            content[section] = values
    scenario = parse(Scenario, content, "together")
    return InProcess(Runtime(RunSettings(name="t", algorithm=algorithm, scenario=scenario)))


def play(clients: InProcess, rounds: range, absent: dict[int, str] | None = None) -> list[Any]:
    """Let all clients take part in these rounds, but for the absent one of a round."""
    found = []
    for number in rounds:
        asked = {
            name: Instructions(number, after=True, items=3, count=number == 1)
            for name in clients.clients
            if name != (absent or {}).get(number)
        }
        found.append(dict(clients.exchange(asked, dict.fromkeys(asked, NOTHING))))
    return found


def require_same(
    together: list[dict[str, ClientResult]], single: list[dict[str, ClientResult]]
) -> None:
    for jointly, one in zip(together, single, strict=True):
        assert list(jointly) == list(one)
        for name, result in jointly.items():
            expected = one[name]
            assert result.fit and expected.fit
            assert result.fit.loss == pytest.approx(expected.fit.loss, abs=1e-5)
            assert (result.fit.steps, result.fit.samples) == (
                expected.fit.steps,
                expected.fit.samples,
            )
            assert [record.value for record in result.records] == [
                r.value for r in expected.records
            ]


def require_same_states(jointly: LocalClient, expected: LocalClient) -> None:
    for kind in ("_adapters", "_moments", "state"):
        found, wanted = getattr(jointly, kind), getattr(expected, kind)
        assert list(found) == list(wanted)
        for key, value in wanted.items():
            torch.testing.assert_close(found[key], value, rtol=1e-2, atol=2e-4, msg=key)
    assert str(jointly.stream.state_dict()) == str(expected.stream.state_dict())


@pytest.fixture(autouse=True)
def joint_sizes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The sizes of the groups that trained together."""
    sizes: list[int] = []
    train = JointModel.train

    def noted(self: JointModel, clients: Any, turns: Any) -> Any:
        sizes.append(len(clients))
        return train(self, clients, turns)

    monkeypatch.setattr(JointModel, "train", noted)
    yield sizes


@pytest.mark.parametrize(
    ("algorithm", "model"),
    [("fedmosaic", LLAMA), ("fedmosaic", QWEN), ("fedmosaic", LARGE), ("fedavg", QWEN)],
)
def test_losses_and_choices_are_those_of_one_by_one(
    algorithm: str, model: str, joint_sizes: list[int]
) -> None:
    """With dropout, which draws the same units, and in a round that counts operations."""
    jointly, single = (federation(algorithm, (model,) * 3, together) for together in (4, 1))
    found, expected = play(jointly, range(2)), play(single, range(2))
    assert joint_sizes == [3, 3]
    require_same(found, expected)
    for name, client in jointly.clients.items():
        require_same_states(client, single.clients[name])
    counted = [[result.flops or {} for result in side[1].values()] for side in (found, expected)]
    assert all(flops["steps"] == flops["total"] for flops in counted[0])
    together, apart = (sum(flops["total"] for flops in side) for side in counted)
    assert 0.6 < together / apart < 1.05  # without padding


@pytest.mark.parametrize("algorithm", ["fedmosaic", "fedavg"])
@pytest.mark.parametrize(("fused", "dropout"), [(True, 0.0), (True, 0.2), (False, 0.2)])
def test_joint_layers_in_few_operations_and_as_they_are_learn_the_same(
    algorithm: str, fused: bool, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    forward = TrainedLayer._forward

    def noted(self: TrainedLayer, x: torch.Tensor, *others: Any) -> torch.Tensor:
        used.append(self.layer.self_attn.layer_idx)
        return forward(self, x, *others)

    adapter = {"dropout": dropout}
    single = federation(algorithm, (QWEN, QWEN), together=1, adapter=adapter)
    expected = play(single, range(1))
    train = {"fused_layers": fused}
    joint = federation(algorithm, (QWEN, QWEN), together=2, adapter=adapter, train=train)
    monkeypatch.setattr(TrainedLayer, "_forward", noted)
    require_same(play(joint, range(1)), expected)
    layers = len(joint.clients["a"].backbone.language_layers)
    assert used == (list(range(layers)) * 3 if fused else [])


def test_a_model_that_needs_padding_gets_it(
    monkeypatch: pytest.MonkeyPatch, joint_sizes: list[int]
) -> None:
    monkeypatch.setattr(training, "takes_unpadded", lambda *_: False)
    jointly, single = (federation("fedmosaic", (LLAMA,) * 3, together) for together in (3, 1))
    require_same(play(jointly, range(2)), play(single, range(2)))
    assert joint_sizes == [3, 3]
    for name, client in jointly.clients.items():
        require_same_states(client, single.clients[name])


def test_a_run_goes_on_with_another_number(tmp_path: Any, joint_sizes: list[int]) -> None:
    """A client misses round 1, so that its moments are younger than the others' in round 2."""
    sections = {"train": {"moment_shared": "tensor"}, "models": {"gradient_checkpointing": True}}
    sections |= {"adapter": {"dropout": 0.0}, "rounds": 3}
    absent = {1: "b"}
    plain = federation("fedmosaic", (LLAMA,) * 3, 1, **sections)
    expected = play(plain, range(3), absent)
    found: list[Any] = []
    for number, together in enumerate((1, 2, 3)):
        clients = federation("fedmosaic", (LLAMA,) * 3, together, **sections)
        if number:
            clients.load(tmp_path / str(number - 1))
        found += play(clients, range(number, number + 1), absent)
        clients.save(tmp_path / str(number))()
    assert joint_sizes == [2, 3]
    require_same(found, expected)
    for name, client in clients.clients.items():
        require_same_states(client, plain.clients[name])


def test_a_client_that_diverges_fails_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a hook wrote into its state is gone too."""
    jointly, single = (federation("fedmosaic", (LLAMA,) * 3, together) for together in (3, 1))
    play(jointly, range(1)), play(single, range(1))
    planned = FedMosaic.local_training

    def marking(self: FedMosaic, client: Any) -> Any:
        def mark(step: int, examples: Any) -> None:
            client.state["mark"] = torch.tensor(float(step))

        return planned(self, client)._replace(each_step=mark)

    monkeypatch.setattr(FedMosaic, "local_training", marking)
    for clients in (jointly, single):
        broken = clients.clients["b"]
        key = next(key for key in broken._adapters if key.startswith("global/layer."))
        broken._adapters[key].fill_(float("nan"))
    before = {key: value.clone() for key, value in jointly.clients["b"].state.items()}
    moments = jointly.clients["b"]._moments["exp_avg"].clone()
    (found,), (expected,) = play(jointly, range(1, 2)), play(single, range(1, 2))
    assert found["b"].failure == expected["b"].failure and "not finite" in found["b"].failure
    assert found["b"].update is None and found["b"].fit is None
    torch.testing.assert_close(jointly.clients["b"].state, before, rtol=0, atol=0)
    torch.testing.assert_close(jointly.clients["b"]._moments["exp_avg"], moments, rtol=0, atol=0)
    assert jointly.clients["a"].state["mark"] == 2.0
    require_same([{n: found[n] for n in "ac"}], [{n: expected[n] for n in "ac"}])


def test_groups_have_one_architecture_rank_and_size() -> None:
    clients = federation("fedavg", (LLAMA, QWEN, LLAMA), 2)
    asked = {name: Instructions(0) for name in "abc"}
    assert groups_of(clients.runtime, ["a", "b", "c"], asked) == [["a", "c"], ["b"]]
    asked["c"] = Instructions(0, train=False)
    assert groups_of(clients.runtime, ["a", "b", "c"], asked) == [["a"], ["b"], ["c"]]

    content = clients.runtime.scenario.model_dump(mode="json")
    for number, rank in enumerate((2, 4, 2)):
        content["clients"][number].update(r=rank, model=LLAMA)
    scenario = parse(Scenario, content, "ranks")
    runtime = Runtime(RunSettings(name="t", algorithm="flora", scenario=scenario))
    everybody = {name: Instructions(0) for name in "abc"}
    assert groups_of(runtime, ["a", "b", "c"], everybody) == [["a", "c"], ["b"]]


@pytest.mark.parametrize(
    ("algorithm", "sections", "reason"),
    [
        ("ditto", {}, "ditto has a local training of its own"),
        ("fedmosaic", {"adapter": {"gate": "input"}}, "adapter.gate=input"),
        ("fedavg", {"models": {"gradient_checkpointing": True}}, "drop other units"),
    ],
)
def test_what_trains_one_by_one_is_said(algorithm: str, sections: Any, reason: str) -> None:
    runtime = federation(algorithm, (LLAMA,) * 3, 2, **sections).runtime
    with pytest.warns(UserWarning, match=f"train.together=2: .*{reason}"):
        warn_of_obstacles(runtime)
    asked = {name: Instructions(0) for name in "ab"}
    assert groups_of(runtime, ["a", "b"], asked) == [["a"], ["b"]]


def test_a_model_with_dropout_of_its_own_trains_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = federation("sft", (LLAMA,) * 3, 2, adapter={"dropout": 0.0}).runtime
    assert not obstacle(runtime, LLAMA)
    runtime = federation("sft", (LLAMA,) * 3, 2, adapter={"dropout": 0.0}).runtime
    layer = runtime.backbone(LLAMA).language_layers[0].self_attn
    monkeypatch.setattr(layer, "attention_dropout", 0.1)
    assert obstacle(runtime, LLAMA) == f"{LLAMA} has dropout of its own"
