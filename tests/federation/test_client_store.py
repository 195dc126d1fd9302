"""Keep the state of clients in files between their turns, with the numbers of clients in memory."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from short_run import StopAt, files, numbers, start

import fedmosaic
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import CheckpointError
from fedmosaic.federation.client_store import ClientStore, note_trained, trained_clients
from fedmosaic.federation.pools import TaskPool
from fedmosaic.federation.runtime import Runtime
from tiny_scenario import TINY

ON_DISK = ["clients_in_memory=1", "evaluation.others=false", "train.steps=2", "cohort=2"]
IN_MEMORY = [*ON_DISK[1:], "clients_in_memory=4"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run whose clients stay in memory."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    start(folder / "tiny.yaml", folder / "run", overrides=IN_MEMORY)
    return folder / "run"


@pytest.mark.parametrize("workers", [1, 2])
def test_clients_on_disk_have_the_numbers_of_clients_in_memory(
    tiny: Path, tmp_path: Path, whole: Path, workers: int
) -> None:
    run = start(tiny, tmp_path / "run", overrides=ON_DISK, workers=workers)
    assert numbers(run.folder) == numbers(whole) and files(run.folder) == files(whole)
    assert not (run.folder / ".clients").exists()


def test_a_stopped_run_goes_on_from_the_files(tiny: Path, tmp_path: Path, whole: Path) -> None:
    rounds = [line["clients"] for line in numbers(whole) if line["kind"] == "round"]
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        start(tiny, out, overrides=ON_DISK, callbacks=[StopAt(2, rounds[2][-1])])
    fedmosaic.resume(out, progress=False)
    assert numbers(out) == numbers(whole) and files(out) == files(whole)


def test_checkpoints_share_the_files_of_clients_that_did_not_change(whole: Path) -> None:
    rounds = [line["clients"] for line in numbers(whole) if line["kind"] == "round"]
    before, after = (whole / "checkpoints" / f"round-000{k}" / "clients" for k in (2, 3))
    early = {*rounds[0], *rounds[1]}
    assert trained_clients(before) == early and trained_clients(after) == early | {*rounds[2]}
    assert early - {*rounds[2]}, "no client paused in the last round"
    for name in early:
        same = os.path.samefile(before / f"{name}.safetensors", after / f"{name}.safetensors")
        assert same == (name not in rounds[2])
    assert {path.name for path in (whole / "adapters").iterdir()} == early | {*rounds[2]}


@pytest.fixture
def store(tiny: Path, tmp_path: Path) -> Iterator[ClientStore]:
    scenario = load_scenario(tiny, [*ON_DISK, "relevance.model=miniature/llama-8x96"])
    runtime = Runtime(RunSettings(name="store", algorithm="fedmkt", scenario=scenario))
    made = ClientStore(runtime, folder=tmp_path / "clients", limit=1)
    yield made
    made.clear()


def train(store: ClientStore, name: str) -> dict[str, torch.Tensor]:
    """Change a client's adapter and return it."""
    client = store[name]
    with client.turn(), torch.no_grad():
        for value in client.adapted.parameters.values():
            value.add_(1)
    store.trim()
    return dict(client._adapters)


def test_only_clients_that_trained_have_files(store: ClientStore, tmp_path: Path) -> None:
    store.introduce()
    learned = {name: train(store, name) for name in "ab"}
    store["c"], store["d"]
    store.trim()
    assert store.trained == ["a", "b"]
    assert len(list((tmp_path / "clients").rglob("*.safetensors"))) == 2
    for name, adapters in learned.items():
        second = store[name]
        assert all(torch.equal(second._adapters[key], value) for key, value in adapters.items())
    # d begins with what the algorithm keeps for every untrained client of its architecture.
    assert torch.equal(store["d"].state["losses"], store["a"].state["losses"])


def test_a_client_that_leaves_memory_takes_its_tensors_along(store: ClientStore) -> None:
    train(store, "a")
    left, adapters = store["a"], weakref.ref(next(iter(store["a"]._adapters.values())))
    gc.disable()  # the client itself stays until Python searches for garbage
    try:
        train(store, "b")
        assert left not in store._present.values() and adapters() is None
    finally:
        gc.enable()


def test_a_file_that_is_replaced_stays_until_the_checkpoint_links_to_it(
    store: ClientStore, tmp_path: Path
) -> None:
    noted = {name: train(store, name) for name in "ab"}  # a left memory, b is there
    write, snapshot = store.save(tmp_path / "saved"), weakref.ref(noted["b"].popitem()[1])
    later = {name: train(store, name) for name in "bab"}  # both are written anew
    write()
    assert snapshot() is None  # what is written takes no memory
    note_trained(tmp_path / "saved")
    store.load(tmp_path / "saved")
    for name, adapters in noted.items():
        found, changed = store[name]._adapters, later[name]
        assert all(torch.equal(found[key], value) for key, value in adapters.items())
        assert not all(torch.equal(found[key], value) for key, value in changed.items())


def test_a_client_whose_file_is_being_written_is_waited_for(
    store: ClientStore, tmp_path: Path
) -> None:
    learned = train(store, "a")
    store["a"].state["own"] = own = torch.zeros(3)
    write = store.save(tmp_path / "saved")
    own.add_(1)  # an algorithm may change its own tensors in place
    store["b"]
    store.trim()
    assert list(store._present) == ["b"]
    writing = threading.Timer(0.1, write)
    writing.start()
    found = store["a"]
    assert all(torch.equal(found._adapters[key], value) for key, value in learned.items())
    assert not found.state["own"].any()
    writing.join()
    found.changed = True
    failing = store.save(tmp_path)
    store["b"]
    store.trim()
    (tmp_path / "clients").rename(tmp_path / "moved")
    (tmp_path / "clients").write_text("no folder")
    with pytest.raises(OSError):
        failing()
    with pytest.raises(OSError):
        store["a"]


def test_a_store_that_nobody_clears_leaves_no_files(tiny: Path, tmp_path: Path) -> None:
    scenario = load_scenario(tiny, [*ON_DISK, "relevance.model=miniature/llama-8x96"])
    runtime = Runtime(RunSettings(name="store", scenario=scenario))
    store = ClientStore(runtime, folder=tmp_path, limit=0)
    train(store, "a")
    assert list(tmp_path.rglob("*.safetensors"))
    del store
    gc.collect()
    assert not list(tmp_path.rglob("clients-*"))


def test_a_damaged_file_is_refused_by_name(store: ClientStore, tmp_path: Path) -> None:
    train(store, "a"), train(store, "b")
    store.save(tmp_path / "saved")()
    damaged = tmp_path / "saved" / "b.safetensors"
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"saved.b\.safetensors cannot be read"):
        store.load(tmp_path / "saved")
    damaged.unlink()
    (tmp_path / "saved" / "trained.json").write_text('["a", "b"]')
    with pytest.raises(CheckpointError, match=r"saved.b\.safetensors cannot be read"):
        store.load(tmp_path / "saved")


def test_a_file_that_breaks_between_turns_names_the_client(store: ClientStore) -> None:
    train(store, "a"), train(store, "b")
    store._files["a"].write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="the state of client 'a' cannot be read again"):
        store["a"]


def test_tasks_beyond_the_limit_are_read_again(store: ClientStore) -> None:
    runtime = store.runtime
    assert runtime.tasks.limit == 1
    specs = [client.tasks[0] for client in runtime.scenario.clients]
    pool = TaskPool(runtime.scenario.data, 2)
    first = pool.task(specs[0])
    pool.test_set(specs[0], 3)
    assert pool.task(specs[0]) is first
    for spec in specs[1:3]:
        pool.task(spec)
    second = pool.task(specs[0])
    assert second is not first and second.train[0].turns == first.train[0].turns
    assert len(pool._tasks) == 2 and not pool._test_sets
