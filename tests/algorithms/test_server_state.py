"""Check that the server's state orders rows, refuses misfits and survives a checkpoint."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from fedmosaic.algorithms import rows, storage
from fedmosaic.algorithms.layout import Layout
from fedmosaic.algorithms.state import ServerState, StateKey
from fedmosaic.algorithms.storage import Storage
from fedmosaic.errors import CheckpointError, UpdateError

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


def small_state(limit: int | None, folder: Path) -> ServerState:
    """Return the state of six clients: rows of 1000 values in an order that is not the roster's."""
    state = ServerState([f"c{i}" for i in range(6)], Storage(limit, folder))
    for i in (3, 0, 5, 1, 2, 4):
        state.put(
            BLOCK, {"P": torch.arange(1000.0).view(10, 100) + i, "e": torch.empty(0)}, f"c{i}"
        )
    state.put(MEAN, {"A": torch.ones(2)})
    return state


@pytest.mark.parametrize("limit", [None, 24_000, 23_999, 0])
def test_rows_in_files_are_those_in_memory(limit: int | None, tmp_path: Path) -> None:
    state = small_state(limit, tmp_path / "rows")
    assert state.in_memory(BLOCK) == (limit in (None, 24_000))
    assert (tmp_path / "rows").exists() == (limit is not None)
    whole = state.matrix(BLOCK)
    assert whole[:, 0].tolist() == [0.0, 1, 2, 3, 4, 5]
    assert torch.equal(state.read(BLOCK, ["c4", "c1"], 10, 17), whole[[4, 1], 10:17])
    before = state.get(BLOCK, "c2")
    state.put(BLOCK, {"P": torch.zeros(10, 100), "e": torch.empty(0)}, "c2")
    assert before["P"][0, 0] == 2 and not state.get(BLOCK, "c2")["P"].any()
    mixed = StateKey("mixed")
    for _ in range(2):
        state.put_matrix(mixed, BLOCK, ["c1", "c5"], whole[[1, 5]].clone())
    assert state.clients(mixed) == ["c1", "c5"] and state.get(mixed, "c0") == {}
    assert torch.equal(state.get(mixed, "c5")["P"], before["P"] + 3)
    state.put_matrix(mixed, BLOCK, ["c1"], whole[[1]].clone())
    assert state.get(mixed, "c5") == {}, "rows of before are gone"
    state.storage.close()
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize("limit", [None, 0])
def test_a_checkpoint_writes_the_rows_that_changed(
    limit: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "SMALL", 0)
    state = small_state(limit, tmp_path / "rows")
    written: list[int] = []
    plain = os.pwrite
    monkeypatch.setattr(
        storage.os, "pwrite", lambda *args: written.append(len(args[1])) or plain(*args)
    )
    saved = {}
    for number in range(4):
        state.put(BLOCK, {"P": torch.full((10, 100), number), "e": torch.empty(0)}, f"c{number}")
        tensors, layout = state.state_dict(tmp_path / str(number))
        copied = {name: value.clone() for name, value in tensors.items()}
        saved[number] = copied, layout, state.matrix(BLOCK).clone()
    # In memory the first checkpoint is one file, the second makes the segments; then one row each.
    assert sum(written) // 4000 == (6 + 2 if limit is None else 4)
    shared = {found.stat().st_ino for found in (tmp_path / "2").glob("rows-0-*")}
    assert shared < {found.stat().st_ino for found in (tmp_path / "3").glob("rows-0-*")}
    for number in range(4, 10):  # each leaves one row of the segment before in use
        for client in range(number - 4, 6):
            state.put(BLOCK, {"P": torch.ones(10, 100), "e": torch.empty(0)}, f"c{client}")
        state.state_dict(tmp_path / str(number))
        sizes = [found.stat().st_size for found in (tmp_path / str(number)).iterdir()]
        assert sum(sizes) <= 2 * 6 * 4000 + 100, "rows that nothing uses are left out"
    state.storage.close()
    for number, (tensors, layout, expected) in saved.items():
        other = ServerState(state.roster, Storage(limit, tmp_path / f"others {number}"))
        other.load_state_dict(tensors, layout, tmp_path / str(number))
        assert torch.equal(other.matrix(BLOCK), expected), number
        assert other.in_memory(BLOCK) == state.in_memory(BLOCK)
        other.put(BLOCK, {"P": torch.zeros(10, 100), "e": torch.empty(0)}, "c5")
        assert not other.get(BLOCK, "c5")["P"].any()
        other.state_dict(tmp_path / f"again {number}")


def test_a_file_that_was_cut_off_is_named(tmp_path: Path) -> None:
    state = small_state(0, tmp_path / "rows")
    tensors, layout = state.state_dict(tmp_path / "saved")
    (file,) = (found for found in (tmp_path / "saved").iterdir() if found.stat().st_size > 8)
    os.truncate(file, file.stat().st_size - 4)
    with pytest.raises(CheckpointError, match=rf"{file.name} is damaged.* 23,996 .* 24,000"):
        ServerState(state.roster).load_state_dict(tensors, layout, tmp_path / "saved")
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file.name} cannot be opened"):
        ServerState(state.roster).load_state_dict(tensors, layout, tmp_path / "saved")
