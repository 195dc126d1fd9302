"""Check that weights in blocks and rows in files give what whole matrices in memory give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from stub_federation import federation, update
from torch import Tensor

from fedmosaic.algorithms import fedmosaic
from fedmosaic.algorithms.common import many_clients, weight_rows
from fedmosaic.algorithms.common.many_clients import StoredSignatures
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.state import ServerState, StateKey
from fedmosaic.algorithms.storage import Storage
from fedmosaic.errors import UpdateError
from fedmosaic.relevance import nearest_peers, similarity
from fedmosaic.relevance.weights import relevance_weights
from fedmosaic.seeding import generator

ARCHITECTURES = [["small", "large", "small"][i % 3] for i in range(29)] + ["alone"]
KEY = StateKey("signature")


def grouped(n: int, length: int = 400) -> Tensor:
    """Return signatures as clients of groups have them: a direction of each group, and noise."""
    draw = generator("grouped", n, length)
    groups = torch.randn(5, length, generator=draw)
    scale = 10 ** torch.randn(n, 1, generator=draw)
    own = torch.rand(n, 1, generator=draw) * torch.randn(n, length, generator=draw)
    return scale * (groups[torch.arange(n) % 5] + own)


def one_round(
    algorithm: str,
    limit: int | None,
    folder: Path,
    missing: tuple[int, ...] = (),
    receivers: list[str] | None = None,
    **sections: Any,
) -> tuple[dict[str, Message], dict[str, Any]]:
    """Return what each client receives after a round, and what was recorded."""
    algorithm_made, server = federation(algorithm, ARCHITECTURES, **sections)
    server.state = ServerState(server.state.roster, Storage(limit, folder))
    signatures = grouped(len(ARCHITECTURES))
    signatures[list(missing)] = 0
    signatures[[7, 12]] = signatures[[2, 17]]  # equal ones: ties go by name
    for i, member in reversed(list(enumerate(server.members))):
        tensors = {**update(i, member.architecture).tensors, "signature": signatures[i]}
        algorithm_made.take(server, member, Message(tensors))
    server.receivers = receivers
    algorithm_made.aggregate(server, {})
    sent = {member.name: algorithm_made.download(server, member) for member in server.members}
    return sent, server.report["relevance"]


@pytest.mark.parametrize("limit", [None, 3000])
@pytest.mark.parametrize(
    ("algorithm", "relevance", "missing"),
    [
        ("fedmosaic", {}, ()),
        ("fedmosaic", {"relative_tau": 0.5}, (3,)),
        ("fedmosaic", {"top_k": 3}, ()),
        ("fedmosaic", {"top_k": 3, "candidates": 0}, (0, 9)),
        ("fedmosaic", {"top_k": 8}, (0, 9, 29)),
        ("fedmosaic", {"top_k": 3}, tuple(range(30))),
        ("fedmosaic", {"top_k": 4, "relative_tau": 0.5}, ()),
        ("fedmosaic-additive", {"top_k": 3}, (0,)),
        ("fedmosaic-additive", {}, (0,)),
        ("fedmosaic-same-architecture", {"top_k": 2}, ()),
        ("fedmosaic-permuted", {}, ()),
        ("fedmosaic-uniform", {}, ()),
    ],
)
def test_blocks_and_files_change_no_number(
    algorithm: str,
    relevance: dict[str, Any],
    missing: tuple[int, ...],
    limit: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected, dense = one_round(algorithm, None, tmp_path, missing, relevance=relevance)
    monkeypatch.setattr(weight_rows, "ENTRIES", 70)
    monkeypatch.setattr(many_clients, "CANDIDATES", 12)
    monkeypatch.setattr(Storage, "block", 2000)  # a few columns, or clients, at a time
    section = {"relevance": relevance, "server": {"dense_clients": 5}}
    found, sparse = one_round(algorithm, limit, tmp_path / "rows", missing, **section)
    for name, message in expected.items():
        assert set(message.tensors) == set(found[name].tensors)
        for key, value in message.tensors.items():
            assert torch.allclose(found[name].tensors[key], value, rtol=1e-5, atol=5e-6), name
    places = {name: place for place, name in enumerate(dense["clients"])}
    for name, peers, weights, similarities in zip(*sparse.values(), strict=True):
        row = places[name]
        whole = torch.tensor(dense["weights"][row])
        at = torch.tensor([places[sparse["clients"][peer]] for peer in peers])
        assert torch.allclose(whole[at], torch.tensor(weights), atol=5e-6)
        assert torch.allclose(whole[at], whole.sort(descending=True).values[: len(at)], atol=5e-6)
        listed = torch.tensor(dense["similarity"][row])[at]
        assert torch.allclose(listed, torch.tensor(similarities), atol=5e-6)


@pytest.mark.parametrize(
    "relevance",
    [{}, {"top_k": 3, "candidates": 0}, {"top_k": 3}, {"relative_tau": 0.5}, {"kind": "uniform"}],
)
def test_few_receivers_get_what_they_get_among_all(
    relevance: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, _ = one_round("fedmosaic", None, tmp_path, (0, 9), relevance=relevance)
    monkeypatch.setattr(weight_rows, "ENTRIES", 70)
    due = ["c3", "c0", "c29", "c12"]
    sections: dict[str, Any] = {"relevance": relevance}
    if "candidates" not in relevance and "top_k" in relevance:
        sections["server"] = {"dense_clients": 5}
    found, record = one_round("fedmosaic", None, tmp_path, (0, 9), receivers=due, **sections)
    for name in due:
        for key, value in expected[name].tensors.items():
            assert torch.allclose(found[name].tensors[key], value, rtol=1e-5, atol=5e-6), name
    listed = {name for name, peers in zip(record["clients"], record["peers"], strict=True) if peers}
    assert listed == set(due)
    assert all(not message.tensors for name, message in found.items() if name not in due)


@pytest.mark.parametrize("relevance", [{}, {"relative_tau": 0.5}])
def test_receivers_of_whom_nothing_is_known_yet_get_nothing(
    relevance: dict[str, Any], tmp_path: Path
) -> None:
    found, record = one_round(
        "fedmosaic", None, tmp_path, receivers=["newcomer"], relevance=relevance
    )
    assert not any(message.tensors for message in found.values())
    assert not any(record["peers"])


def test_a_record_of_many_clients_lists_the_largest_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, dense = one_round("fedmosaic", None, tmp_path)
    monkeypatch.setattr(weight_rows, "RECORDED", len(dense["clients"]) - 1)
    monkeypatch.setattr(fedmosaic, "LISTED", 3)
    found, sparse = one_round("fedmosaic", None, tmp_path)
    assert all(
        torch.equal(value, found[name].tensors[key])
        for name, message in expected.items()
        for key, value in message.tensors.items()
    )
    for row, peers in enumerate(sparse["peers"]):
        largest = sorted(dense["weights"][row], reverse=True)[:3]
        assert sparse["weights"][row] == largest == [dense["weights"][row][k] for k in peers]


def test_rows_in_files_give_the_dense_weights_too(tmp_path: Path) -> None:
    expected, dense = one_round("fedmosaic", None, tmp_path)
    found, record = one_round("fedmosaic", 0, tmp_path / "rows")
    assert record == dense and (tmp_path / "rows").exists()
    for name, message in expected.items():
        for key, value in message.tensors.items():
            assert torch.allclose(found[name].tensors[key], value, rtol=1e-5, atol=1e-6)


def test_an_average_is_the_same_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Storage, "block", 700)
    updates = {f"c{i}": update(i, name) for i, name in enumerate(ARCHITECTURES)}
    means = []
    for limit in (None, 500):
        algorithm, server = federation("fedavg", ARCHITECTURES)
        server.state = ServerState(server.state.roster, Storage(limit))
        algorithm.aggregate(server, updates)
        means.append([algorithm.download(server, member).tensors for member in server.members])
    for one, other in zip(*means, strict=True):
        assert one and all(torch.allclose(other[key], one[key], atol=1e-6) for key in one)


def stored(signatures: Tensor) -> StoredSignatures:
    names = [f"{i:05}" for i in range(len(signatures))]
    state = ServerState(names)
    state.put(KEY, {"signature": signatures[0]})
    state.put_matrix(KEY, KEY, names, signatures)
    return StoredSignatures(state, KEY, names)


def test_sketches_find_the_peers_of_all_pairs() -> None:
    signatures = grouped(1500, 3000)
    signatures[[5, 500, 900]] = signatures[[1, 2, 3]]
    cosines = similarity(signatures)
    found = nearest_peers(stored(signatures), 16, 64)
    weights = relevance_weights(cosines, top_k=16)
    expected = weights.gather(1, found.peers)
    assert ((weights > 0).sum(1) == 16).all()
    assert (expected > 0).all(), "the same peers"
    assert torch.allclose(cosines.double().gather(1, found.peers), found.similarity, atol=1e-6)
    assert torch.allclose(torch.softmax(found.similarity / 0.5, 1).float(), expected, atol=1e-7)
    assert found.peers[[1, 5, 2, 500]][:, 0].tolist() == [5, 1, 500, 2]


def test_signatures_that_are_not_finite_are_named() -> None:
    signatures = grouped(20)
    signatures[11, 3] = torch.inf
    with pytest.raises(UpdateError, match=r"\[11\]"):
        nearest_peers(stored(signatures), 2, 8)
