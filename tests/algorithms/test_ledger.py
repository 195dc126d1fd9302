"""The ledger keeps rows in roster order, refuses misfits and survives a checkpoint."""

from __future__ import annotations

import pytest
import torch

from fedmosaic.algorithms.ledger import Ledger
from fedmosaic.errors import UpdateError


def test_rows_stand_in_roster_order_and_come_back_as_tensors() -> None:
    ledger = Ledger(["a", "b", "c"])
    for name in ("c", "a"):
        ledger.put("block", name, {"P": torch.full((2, 2), float(ord(name))), "Q": torch.ones(2)})
    assert ledger.clients("block") == ["a", "c"]
    assert ledger.matrix("block")[:, 0].tolist() == [97.0, 99.0]
    assert torch.equal(ledger.get("block", "c")["P"], torch.full((2, 2), 99.0))
    assert ledger.get("block", "b") == {} and ledger.get("other", "a") == {}


def test_misfits_are_refused_by_name() -> None:
    ledger = Ledger(["a", "b"])
    ledger.put("block", "a", {"P": torch.ones(2, 2)})
    with pytest.raises(UpdateError, match=r"'b'.*do not fit"):
        ledger.put("block", "b", {"P": torch.ones(3, 3)})


def test_state_roundtrip() -> None:
    ledger = Ledger(["a", "b"])
    ledger.put("layer@m/1", "a", {"A": torch.randn(2, 3)})
    ledger.put_matrix("mean", "layer@m/1", ["a"], torch.ones(1, 6))
    other = Ledger(["a", "b"])
    other.load(*ledger.state())
    assert other.kinds() == ledger.kinds()
    assert torch.equal(other.get("layer@m/1", "a")["A"], ledger.get("layer@m/1", "a")["A"])
    assert torch.equal(other.get("mean", "a")["A"], torch.ones(2, 3))


def test_a_dropped_kind_is_gone_and_may_come_back_in_another_shape() -> None:
    ledger = Ledger(["a"])
    ledger.put("update", "a", {"P": torch.ones(2)})
    ledger.put_matrix("mean", "update", ["a"], torch.ones(1, 2))
    ledger.drop("update")
    assert ledger.kinds() == ["mean"] and torch.equal(ledger.get("mean", "a")["P"], torch.ones(2))
    ledger.put("update", "a", {"P": torch.ones(3)})
