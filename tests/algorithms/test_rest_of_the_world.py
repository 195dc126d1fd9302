"""Check what FedALT's server sends: the mean of what the other clients sent last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranked_factory import federation, updates_of
from torch import Tensor

from fedmosaic.algorithms import Message, fedalt
from fedmosaic.algorithms.state import ServerState
from fedmosaic.algorithms.storage import Storage

MODELS = ["m", "n", "m", "m", "alone"]
RANKS = [4] * len(MODELS)


def sent_to(algorithm: Any, server: Any) -> dict[str, dict[str, Tensor]]:
    return {m.name: dict(algorithm.download(server, m).tensors) for m in server.members}


def mean_of(updates: dict[str, Message], *names: str) -> dict[str, Tensor]:
    """Return the mean of some clients' tensors in float64; every client counts alike."""
    each = [updates[name].tensors for name in names]
    return {key: sum(t[key].double() for t in each) / len(each) for key in each[0]}  # type: ignore[misc]


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.allclose(found[key].double(), value.double(), atol=1e-6)
        for key, value in expected.items()
    )


def test_each_receives_the_mean_of_the_others_of_its_architecture() -> None:
    algorithm, server = federation("fedalt", RANKS, MODELS)
    updates = updates_of(algorithm, RANKS)
    algorithm.aggregate(server, updates)
    sent = sent_to(algorithm, server)
    assert same(sent["c0"], mean_of(updates, "c2", "c3"))
    assert same(sent["c2"], mean_of(updates, "c0", "c3"))
    assert same(sent["c3"], mean_of(updates, "c0", "c2"))
    assert sent["c1"] == sent["c4"] == {}


def test_who_is_absent_counts_with_what_it_sent_last_and_who_never_sent_does_not_count() -> None:
    algorithm, server = federation("fedalt", RANKS, ["m"] * 5)
    first, second = updates_of(algorithm, RANKS), updates_of(algorithm, RANKS, seed=1)
    algorithm.aggregate(server, {"c0": first["c0"]})
    sent = sent_to(algorithm, server)
    assert sent["c0"] == {} and same(sent["c3"], mean_of(first, "c0"))
    algorithm.aggregate(server, {name: second[name] for name in ("c1", "c2")})
    known = {"c0": first["c0"], "c1": second["c1"], "c2": second["c2"]}
    sent = sent_to(algorithm, server)
    assert same(sent["c0"], mean_of(known, "c1", "c2"))
    assert same(sent["c1"], mean_of(known, "c0", "c2"))
    assert same(sent["c4"], mean_of(known, "c0", "c1", "c2"))


@pytest.mark.parametrize("limit", [None, 2000])
def test_few_receivers_small_blocks_and_files_change_no_number(
    limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    algorithm, server = federation("fedalt", [4] * 6, ["m"] * 6)
    updates = updates_of(algorithm, [4] * 6)
    algorithm.aggregate(server, updates)
    whole = sent_to(algorithm, server)
    monkeypatch.setattr(fedalt, "ENTRIES", 12)
    monkeypatch.setattr(Storage, "block", 1000)
    algorithm, server = federation("fedalt", [4] * 6, ["m"] * 6)
    server.state = ServerState(server.state.roster, Storage(limit, tmp_path))
    server.receivers = ["c5", "c1", "c2"]
    for member in reversed(server.members):
        assert not algorithm.take(server, member, updates[member.name]).tensors
    algorithm.aggregate(server, {})
    sent = sent_to(algorithm, server)
    assert all(same(sent[name], whole[name]) for name in server.receivers)
    assert sent["c0"] == sent["c3"] == sent["c4"] == {}
    assert same(whole["c0"], mean_of(updates, "c1", "c2", "c3", "c4", "c5"))
