"""The ledger keeps rows in roster order, refuses misfits and survives a checkpoint."""

from __future__ import annotations

import pytest
import torch

from fedmosaic.algorithms.state import ServerState
from fedmosaic.errors import UpdateError


def test_rows_stand_in_roster_order_and_come_back_as_tensors() -> None:
    state = ServerState(["a", "b", "c"])
    for name in ("c", "a"):
        state.put("block", name, {"P": torch.full((2, 2), float(ord(name))), "Q": torch.ones(2)})
    assert state.clients("block") == ["a", "c"]
    assert state.matrix("block")[:, 0].tolist() == [97.0, 99.0]
    assert torch.equal(state.get("block", "c")["P"], torch.full((2, 2), 99.0))
    assert state.get("block", "b") == {} and state.get("other", "a") == {}


def test_misfits_are_refused_by_name() -> None:
    state = ServerState(["a", "b"])
    state.put("block", "a", {"P": torch.ones(2, 2)})
    with pytest.raises(UpdateError, match=r"'b'.*do not fit"):
        state.put("block", "b", {"P": torch.ones(3, 3)})


def test_state_roundtrip() -> None:
    state = ServerState(["a", "b"])
    state.put("layer@m/1", "a", {"A": torch.randn(2, 3)})
    state.put_matrix("mean", "layer@m/1", ["a"], torch.ones(1, 6))
    other = ServerState(["a", "b"])
    other.load(*state.state())
    assert other.kinds() == state.kinds()
    assert torch.equal(other.get("layer@m/1", "a")["A"], state.get("layer@m/1", "a")["A"])
    assert torch.equal(other.get("mean", "a")["A"], torch.ones(2, 3))


def test_a_dropped_kind_is_gone_and_may_come_back_in_another_shape() -> None:
    state = ServerState(["a"])
    state.put("update", "a", {"P": torch.ones(2)})
    state.put_matrix("mean", "update", ["a"], torch.ones(1, 2))
    state.drop("update")
    assert state.kinds() == ["mean"] and torch.equal(state.get("mean", "a")["P"], torch.ones(2))
    state.put("update", "a", {"P": torch.ones(3)})
