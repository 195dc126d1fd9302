"""Check the algebra of aggregation: single peers, equal updates, permuted and absent clients."""

from __future__ import annotations

import pytest
import torch
from stub_federation import ARCHITECTURES, federation, update, updates_of

from fedmosaic.algorithms import Message
from fedmosaic.algorithms.state import StateKey


def test_first_round_sends_nothing() -> None:
    for name in ("fedmosaic", "fedavg", "sft"):
        algorithm, server = federation(name, ARCHITECTURES)
        assert not algorithm.download(server, server.members[0]).tensors


def test_rows_sum_to_one_and_exclude_oneself() -> None:
    algorithm, server = federation("fedmosaic", ARCHITECTURES)
    algorithm.aggregate(server, updates_of(ARCHITECTURES))
    weights = torch.tensor(server.report["relevance"]["weights"])
    assert torch.allclose(weights.sum(1), torch.ones(5), atol=1e-6)
    assert torch.equal(weights.diagonal(), torch.zeros(5))


def test_the_global_adapter_is_the_weighted_sum_of_the_others() -> None:
    algorithm, server = federation("fedmosaic", ARCHITECTURES)
    updates = updates_of(ARCHITECTURES)
    algorithm.aggregate(server, updates)
    weights = torch.tensor(server.report["relevance"]["weights"], dtype=torch.float64)
    sent = algorithm.download(server, server.members[0]).tensors
    expected = sum(
        weights[0, j] * updates[f"c{j}"].tensors["block.0.q_proj.P"].double() for j in range(1, 5)
    )
    assert torch.allclose(sent["block.0.q_proj.P"].double(), expected, atol=1e-6)
    # c2 is the only other client of c0's architecture: its layers arrive unchanged.
    assert torch.equal(sent["layer.0.q_proj.A"], updates["c2"].tensors["layer.0.q_proj.A"])
    assert sent["layer.0.q_proj.A"].shape[1] == 4
    assert "signature" not in sent


def test_a_client_alone_in_its_architecture_keeps_its_own_layers() -> None:
    algorithm, server = federation("fedmosaic", ARCHITECTURES)
    updates = updates_of(ARCHITECTURES)
    algorithm.aggregate(server, updates)
    sent = algorithm.download(server, server.members[4]).tensors
    assert torch.equal(sent["layer.0.q_proj.B"], updates["c4"].tensors["layer.0.q_proj.B"])
    assert not torch.equal(sent["block.0.q_proj.P"], updates["c4"].tensors["block.0.q_proj.P"])


def test_one_peer_gives_that_peers_tensors_exactly() -> None:
    algorithm, server = federation("fedmosaic", ["small", "small"])
    updates = updates_of(["small", "small"])
    algorithm.aggregate(server, updates)
    sent = algorithm.download(server, server.members[0]).tensors
    assert all(torch.equal(value, updates["c1"].tensors[name]) for name, value in sent.items())


def test_permuting_the_clients_permutes_the_results() -> None:
    algorithm, server = federation("fedmosaic", ARCHITECTURES)
    updates = updates_of(ARCHITECTURES)
    algorithm.aggregate(server, updates)
    order = [3, 0, 4, 2, 1]
    other, shuffled = federation("fedmosaic", [ARCHITECTURES[i] for i in order])
    other.aggregate(shuffled, {f"c{new}": updates[f"c{old}"] for new, old in enumerate(order)})
    for new, old in enumerate(order):
        a = algorithm.download(server, server.members[old]).tensors
        b = other.download(shuffled, shuffled.members[new]).tensors
        assert a.keys() == b.keys()
        assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)


def test_equal_updates_give_the_equal() -> None:
    for name in ("fedmosaic", "fedavg"):
        algorithm, server = federation(name, ["small"] * 4)
        same = update(7, "small")
        if name == "fedavg":
            same = Message(
                {key: value for key, value in same.tensors.items() if key.startswith("layer.")}
            )
        algorithm.aggregate(server, {f"c{i}": same for i in range(4)})
        for member in server.members:
            for key, value in algorithm.download(server, member).tensors.items():
                assert torch.allclose(value, same.tensors[key], atol=1e-6), (name, key)


def test_similar_signatures_weigh_more() -> None:
    algorithm, server = federation("fedmosaic", ["small"] * 3)
    signatures = ([1.0, 0.0, 0.1], [1.0, 0.1, 0.0], [-1.0, 0.5, 0.2])
    algorithm.aggregate(server, {f"c{i}": update(i, "small", s) for i, s in enumerate(signatures)})
    weights = server.report["relevance"]["weights"]
    assert weights[0][1] > weights[0][2] and weights[1][0] > weights[1][2]


@pytest.mark.parametrize("kind", ["uniform", "permuted", "random"])
def test_controls_ignore_the_signatures(kind: str) -> None:
    algorithm, server = federation("fedmosaic", ["small"] * 4, relevance={"kind": kind})
    algorithm.aggregate(server, updates_of(["small"] * 4))
    weights = torch.tensor(server.report["relevance"]["weights"])
    assert torch.allclose(weights.sum(1), torch.ones(4), atol=1e-6)
    assert kind != "random" or ((weights == 0.5).sum(1) == 2).all()
    if kind == "uniform":
        assert torch.allclose(weights, (1 - torch.eye(4)) / 3, atol=1e-6)


def test_absent_clients_count_with_what_they_sent_last() -> None:
    algorithm, server = federation("fedmosaic", ["small"] * 3)
    first = updates_of(["small"] * 3)
    algorithm.aggregate(server, {"c0": first["c0"]})
    assert torch.equal(
        algorithm.download(server, server.members[0]).tensors["block.0.q_proj.P"],
        first["c0"].tensors["block.0.q_proj.P"],
    )
    assert not algorithm.download(server, server.members[1]).tensors
    algorithm.aggregate(server, {"c1": first["c1"]})
    sent = algorithm.download(server, server.members[1]).tensors
    assert torch.equal(sent["block.0.q_proj.P"], first["c0"].tensors["block.0.q_proj.P"])


def test_fedavg_weighs_by_samples_within_an_architecture() -> None:
    algorithm, server = federation("fedavg", ARCHITECTURES)
    updates = {
        name: Message(
            {key: value for key, value in message.tensors.items() if key.startswith("layer.")}
        )
        for name, message in updates_of(ARCHITECTURES).items()
    }
    algorithm.aggregate(server, updates)
    sent = algorithm.download(server, server.members[0]).tensors["layer.0.q_proj.A"]
    a, b = (updates[name].tensors["layer.0.q_proj.A"].double() for name in ("c0", "c2"))
    assert torch.allclose(sent.double(), (10 * a + 12 * b) / 22, atol=1e-6)
    single = algorithm.download(server, server.members[4]).tensors["layer.0.q_proj.A"]
    assert torch.equal(single, updates["c4"].tensors["layer.0.q_proj.A"])
    assert server.state.known_keys() == [StateKey("mean", a) for a in ("small", "large", "alone")]
    assert not any(server.state.clients(key) for key in server.state.known_keys()), (
        "a client's own weights are in the server's state"
    )
    # next round c0 is away: the mean is over those who took part
    algorithm.aggregate(server, {"c2": updates["c2"]})
    sent = algorithm.download(server, server.members[0]).tensors["layer.0.q_proj.A"]
    assert torch.equal(sent, updates["c2"].tensors["layer.0.q_proj.A"])


def test_the_average_is_one_product_over_rows_in_roster_order() -> None:
    """Check bit for bit: float32, tensors by name, clients in roster order."""
    algorithm, server = federation("fedavg", ["small"] * 3)
    updates = {name: updates_of(["small"] * 3)[name] for name in ("c2", "c0", "c1")}
    algorithm.aggregate(server, updates)
    sent = algorithm.download(server, server.members[0]).tensors
    rows = torch.stack(
        [
            torch.cat([value.flatten() for _, value in sorted(updates[name].tensors.items())])
            for name in ("c0", "c1", "c2")
        ]
    )
    samples = torch.tensor([10.0, 11.0, 12.0])
    expected = (samples / samples.sum()) @ rows
    found = torch.cat([value.flatten() for _, value in sorted(sent.items())])
    assert torch.equal(found, expected)
