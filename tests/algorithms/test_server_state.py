"""Check that the server's state orders rows, refuses misfits and survives a checkpoint."""

from __future__ import annotations

import pytest
import torch

from fedmosaic.algorithms.state import Layout, ServerState, StateKey
from fedmosaic.errors import UpdateError

BLOCK, MEAN = StateKey("block"), StateKey("mean", "a/model", 4)


def test_rows_are_in_roster_order_and_come_back_as_tensors() -> None:
    state = ServerState(["a", "b", "c"])
    for name in ("c", "a"):
        state.put(BLOCK, {"P": torch.full((2, 2), float(ord(name))), "Q": torch.ones(2)}, name)
    assert state.clients(BLOCK) == ["a", "c"]
    assert state.matrix(BLOCK)[:, 0].tolist() == [97.0, 99.0]
    assert torch.equal(state.get(BLOCK, "c")["P"], torch.full((2, 2), 99.0))
    assert state.get(BLOCK, "b") == {} and state.get(StateKey("other"), "a") == {}


def test_keys_of_one_kind_are_apart() -> None:
    state = ServerState(["a"])
    for index, key in enumerate((StateKey("x"), StateKey("x", "m"), StateKey("x", "m", 2))):
        state.put(key, {"A": torch.full((index + 1,), float(index))}, "a")
    assert [len(state.get(key, "a")["A"]) for key in state.known_keys()] == [1, 2, 3]


def test_what_belongs_to_no_client_is_in_no_matrix() -> None:
    state = ServerState(["a"])
    state.put(MEAN, {"A": torch.ones(2)})
    assert torch.equal(state.get(MEAN)["A"], torch.ones(2))
    assert state.clients(MEAN) == [] and state.get(MEAN, "a") == {}


def test_misfits_are_refused_by_name() -> None:
    state = ServerState(["a", "b"])
    state.put(BLOCK, {"P": torch.ones(2, 2)}, "a")
    with pytest.raises(UpdateError, match=r"block of client 'b'.*do not fit"):
        state.put(BLOCK, {"P": torch.ones(3, 3)}, "b")
    with pytest.raises(UpdateError, match="other names"):
        state.put(BLOCK, {}, "b")


def test_a_layout_splits_what_it_flattened() -> None:
    tensors = {"b": torch.randn(2, 3), "a": torch.randn(()), "c": torch.randn(0, 4)}
    layout = Layout.of(tensors)
    row = layout.flatten(tensors, "test")
    assert row.shape == (7,) and row[0] == tensors["a"]
    assert all(torch.equal(value, tensors[name]) for name, value in layout.split(row).items())
    assert Layout.of({}).split(Layout.of({}).flatten({}, "test")) == {}


def test_a_checkpoint_brings_everything_back() -> None:
    state = ServerState(["a", "b"])
    state.put(StateKey("layer", "m/1"), {"A": torch.randn(2, 3)}, "a")
    state.put_matrix(StateKey("mixed"), StateKey("layer", "m/1"), ["a"], torch.ones(1, 6))
    state.put(MEAN, {"A": torch.ones(2)})
    other = ServerState(["a", "b"])
    other.load_state_dict(*state.state_dict())
    assert sorted(map(str, other.known_keys())) == sorted(map(str, state.known_keys()))
    for key, client in ((StateKey("layer", "m/1"), "a"), (StateKey("mixed"), "a"), (MEAN, None)):
        assert torch.equal(other.get(key, client)["A"], state.get(key, client)["A"])
    assert other.state_dict()[1] == state.state_dict()[1]
