"""Test the server's defences with a client that attacks, and that they change nothing otherwise."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

import fedmosaic
from fedmosaic.algorithms import Message, algorithm_class, algorithm_names
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.fed_sb import FedSB
from fedmosaic.algorithms.fedavg import FedAvg
from fedmosaic.algorithms.rolora import RoLoRA
from fedmosaic.algorithms.scaffold import Scaffold
from fedmosaic.algorithms.storage import Storage
from fedmosaic.config import DefenceSettings
from fedmosaic.errors import UpdateError
from fedmosaic.federation.defences import Judgement, judge, without_effect
from fedmosaic.federation.exchange import Results, Updates
from fedmosaic.federation.instructions import ClientResult
from fedmosaic.federation.wire import pack, schema_of
from fedmosaic.reporting.progress import clipped_lines


def update(seed: int, scale: float = 1.0, wide: int = 6) -> Message:
    """Return an update that shares a direction with those of other seeds."""
    own = torch.Generator().manual_seed(seed)
    common = torch.Generator().manual_seed(99)
    shapes = {
        "block.0.q_proj.P": (4, 4),
        "block.1.q_proj.P": (4, 4),
        "block.0.q_proj.Q": (4,),
        "layer.3.q_proj.A": (4, wide),
        "layer.3.q_proj.B": (wide, 4),
    }
    tensors = {
        name: scale
        * (torch.randn(shape, generator=common) + 0.3 * torch.randn(shape, generator=own))
        for name, shape in shapes.items()
    }
    return Message({**tensors, "signature": torch.randn(5, generator=own)})


def changed(message: Message, factor: float, *parameters: str) -> Message:
    """Return a message with the tensors of some parameters multiplied by a factor."""
    tensors = {
        name: value * factor if name.rpartition(".")[2] in parameters else value
        for name, value in message.tensors.items()
    }
    return Message(tensors)


def four() -> dict[str, Message]:
    return {name: update(seed) for seed, name in enumerate("abcd")}


# --- one round -----------------------------------------------------------------------------------
@pytest.mark.parametrize("parameter", ["P", "Q", "A", "B"])
def test_a_scaled_update_is_clipped_to_the_median(parameter: str) -> None:
    updates = four()
    honest = {name: message.tensors for name, message in updates.items()}
    updates["c"] = changed(updates["c"], 100.0, parameter)
    found = judge(DefenceSettings(max_update_norm=2.0), updates)
    assert not found.refused and set(found.factors) == {"c"}
    assert set(found.factors["c"]) == {parameter} and 60 < found.norms["c"][parameter] < 150

    def norm(tensors: Any) -> torch.Tensor:
        parts = [v.flatten() for n, v in sorted(tensors.items()) if n.endswith(f".{parameter}")]
        return torch.linalg.vector_norm(torch.cat(parts).double())

    clipped = found.applied("c", updates["c"]).tensors
    norms = sorted(norm(updates[name].tensors) for name in "abcd")
    assert norm(clipped).item() == pytest.approx(2 * (norms[1] + norms[2]).item() / 2, rel=1e-6)
    for name, value in honest["c"].items():
        if name.endswith(f".{parameter}"):  # it still points where it did
            cosine = torch.cosine_similarity(value.flatten(), clipped[name].flatten(), dim=0)
            assert cosine.item() == pytest.approx(1.0, abs=1e-5)
        else:
            assert clipped[name].equal(value)
    for name in "abd":
        assert found.applied(name, updates[name]) is updates[name]


def test_a_scaled_update_is_refused_where_that_is_wanted() -> None:
    updates = four() | {"c": changed(update(2), 1e37, "P")}
    found = judge(DefenceSettings(max_update_norm=2.0, large_norm="refuse"), updates)
    assert set(found.refused) == {"c"} and not found.factors
    assert re.search(
        r"update of client 'c' refused: its P has norm .*e\+3\d, .*e\+\d+ times the median of the "
        r"round \(defences.max_update_norm = 2\)",
        found.refused["c"],
    )


def test_a_flipped_update_is_refused() -> None:
    updates = four() | {"b": changed(update(1), -1.0, "P", "Q", "A", "B")}
    found = judge(DefenceSettings(min_cosine=-0.3), updates)
    assert set(found.refused) == {"b"}
    assert "points away from the others' (cosine -0.9" in found.refused["b"]
    assert found.cosines["b"]["P"] < -0.8 and all(found.cosines[name]["P"] > 0 for name in "acd")


def test_a_large_update_does_not_decide_the_direction() -> None:
    """Else one attacker would have all others refused."""
    updates = four() | {"b": changed(update(1), -1e6, "P", "Q", "A", "B")}
    assert set(judge(DefenceSettings(min_cosine=-0.3), updates).refused) == {"b"}


def test_who_undoes_the_others_is_refused_alone() -> None:
    """Honest updates at right angles point away from one that is opposed to their sum."""
    honest = torch.eye(3)
    rows = [*honest, -honest.sum(0)]
    updates = {name: Message({"block.0.q.P": row}) for name, row in zip("abcd", rows, strict=True)}
    found = judge(DefenceSettings(min_cosine=-0.3), updates)
    assert set(found.refused) == {"d"}
    assert found.cosines["d"]["P"] == pytest.approx(-1) and found.cosines["a"]["P"] == 0.0


def test_two_updates_are_not_compared() -> None:
    updates = {"a": update(0), "b": update(1, scale=1e4)}
    found = judge(DefenceSettings(max_update_norm=1.5, min_cosine=0.0), updates)
    assert not found.refused and not found.factors
    assert set(found.not_judged["b"]) == {"P", "Q", "A", "B"}


def test_only_tensors_of_one_shape_are_compared() -> None:
    """P and Q of all clients are compared, A and B only where three clients share a model."""
    updates = four() | {"d": changed(update(3, wide=9), 100.0, "B", "P")}
    found = judge(DefenceSettings(max_update_norm=2.0, min_cosine=-1.0), updates)
    assert set(found.factors["d"]) == {"P"} and found.not_judged == {"d": ["A", "B"]}
    assert set(found.norms["a"]) == {"P", "Q", "A", "B"}
    record = json.loads(json.dumps(found.record()))
    assert set(record["clipped"]) == {"d"} and record["not_judged"] == {"d": ["A", "B"]}


def test_integers_and_signatures_are_not_judged_and_zeros_do_no_harm() -> None:
    updates = {
        name: Message(
            {
                "tokens": torch.arange(3),
                "signature": torch.full((4,), 10.0**seed),
                "block.0.q.P": torch.zeros(2, 2),
            }
        )
        for seed, name in enumerate("abc")
    }
    found = judge(DefenceSettings(max_update_norm=2.0, min_cosine=-0.5), updates)
    assert not found.refused and not found.factors and not found.norms and not found.cosines


def test_control_variates_are_judged_apart_from_weights() -> None:
    updates = {
        name: Message(
            {"layer.0.q.B": torch.ones(2), "control.layer.0.q.B": torch.full((2,), scale)}
        )
        for name, scale in zip("abcd", (1.0, 1.0, 1.0, 50.0), strict=True)
    }
    found = judge(DefenceSettings(max_update_norm=2.0), updates)
    assert found.factors == {"d": {"control B": pytest.approx(2 / 50)}}


def test_of_many_clients_only_the_outliers_are_listed() -> None:
    updates = {f"c{i}": Message({"block.0.q.P": torch.ones(2)}) for i in range(300)}
    updates["c7"] = Message({"block.0.q.P": torch.full((2,), 9.0)})
    record = judge(DefenceSettings(max_update_norm=2.0), updates).record()
    assert record["norms"] == {"c7": {"P": 9.0}} == record["clipped"]


def test_a_spilled_update_is_judged_like_one_in_memory(tmp_path: Path) -> None:
    members = {name: Member(name=name, architecture="m") for name in "abcd"}
    taken: dict[str, dict[str, Message]] = {}
    for limit in (None, 2000):
        seen = taken.setdefault(str(limit), {})

        def take(member: Member, message: Message, seen: dict[str, Message] = seen) -> Message:
            seen[member.name] = Message({n: v.clone() for n, v in message.tensors.items()})
            return message

        storage = Storage(limit, tmp_path / str(limit))
        results = Results(Updates(storage), take, DefenceSettings(max_update_norm=2.0))
        for name, message in (four() | {"c": changed(update(2), 100.0, "P")}).items():
            schema = schema_of(message)
            results.add(members[name], ClientResult(update=pack(message)), schema)
        assert not seen, "nothing is taken before all have come"
        results.finish(members)
        assert list(seen) == list("abcd") == sorted(results.updates)
        assert bool(list((tmp_path / str(limit)).glob("update-*"))) is (limit is not None)
        for name, message in seen.items():
            for key, value in results.updates[name].tensors.items():
                assert value.equal(message.tensors[key])
        results.updates.clear()
        assert storage.used == 0 and not list((tmp_path / str(limit)).glob("update-*"))
    for name, message in taken["None"].items():
        for key, value in message.tensors.items():
            assert value.equal(taken["2000"][name].tensors[key])


def test_an_update_that_the_algorithm_refuses_is_noted() -> None:
    def take(member: Member, message: Message) -> Message:
        raise UpdateError("it does not fit")

    results = Results(Updates(Storage()), take, DefenceSettings(max_update_norm=2.0))
    member, message = Member(name="a", architecture="m"), update(0)
    results.add(member, ClientResult(update=pack(message)), schema_of(message))
    results.finish({"a": member})
    assert results.refused == {"a": "update of client 'a' refused: it does not fit"}
    assert not results.updates


def test_terminal_names_the_client_and_the_figures() -> None:
    record = Judgement(2.0, factors={"c": {"P": 0.02}}, norms={"c": {"P": 100.0}}).record()
    assert clipped_lines({"defences": record}) == [
        "update of client 'c' scaled down to 2 times the median norm: P was 100 times"
    ]
    assert clipped_lines({}) == []


# --- what has no effect --------------------------------------------------------------------------
def test_a_setting_without_effect_is_named() -> None:
    from fedmosaic.config import Scenario

    clients = [{"name": "a", "model": "m", "tasks": ["t"]}]
    scenario = Scenario.model_validate({"clients": clients})
    settings = DefenceSettings(trim=0.2)
    four_clients = [Member(name=name, architecture="m") for name in "abcd"]
    made = {
        name: fedmosaic.algorithms.make_algorithm(name, scenario, 0)
        for name in ("fedavg", "fedmosaic")
    }
    assert without_effect(DefenceSettings(), made["fedmosaic"], four_clients) == []
    (text,) = without_effect(settings, made["fedmosaic"], four_clients)
    assert text.startswith("defences.trim has no effect: fedmosaic forms no mean")
    (text,) = without_effect(settings, made["fedavg"], four_clients)
    assert "leaves nothing out for m: with 4 clients it must be at least 0.25" in text
    assert without_effect(DefenceSettings(trim=0.25), made["fedavg"], four_clients) == []


def test_whether_an_algorithm_trims_is_declared_rightly() -> None:
    means = {FedAvg.aggregate, Scaffold.aggregate, RoLoRA.aggregate, FedSB.aggregate}
    for name in algorithm_names():
        cls = algorithm_class(name)
        assert cls.trims is (cls.aggregate in means), name
