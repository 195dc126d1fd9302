"""Write checkpoints while the next round computes: killed, failing, or switched off."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from short_run import files, numbers, start

import fedmosaic
from benchmarks.cost.kill_resume import fingerprint
from fedmosaic.algorithms.state import ServerState, StateKey
from fedmosaic.cli import main
from fedmosaic.errors import CheckpointError
from fedmosaic.federation import checkpoints
from fedmosaic.federation import client as client_module
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.run_folder import CLIENTS, RunFolder
from fedmosaic.federation.wire import read_tensors
from tiny_scenario import TINY

DEAD = 9
# Every client comes and goes, so that its file is replaced while a checkpoint may link to it.
SHORT = ["train.steps=2", "evaluation.every=0", "evaluation.others=false", "clients_in_memory=1"]
PLAIN = "server.background_checkpoints=false"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run in which every round waits for its checkpoint."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    start(folder / "tiny.yaml", folder / "run", overrides=[*SHORT, PLAIN])
    return folder / "run"


@pytest.mark.parametrize("workers", [1, 2])
def test_the_files_are_those_of_a_run_that_waits(
    tiny: Path, tmp_path: Path, plain: Path, workers: int
) -> None:
    run = start(tiny, tmp_path / "run", overrides=SHORT, workers=workers)
    assert numbers(run.folder) == numbers(plain) and files(run.folder) == files(plain)
    assert not list(run.folder.glob(".*"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_death_in_a_round_whose_predecessor_is_being_written(
    tiny: Path, tmp_path: Path, plain: Path
) -> None:
    """A client has trained in the meantime, and half of a file is there."""
    out, trained = tmp_path / "run", threading.Event()
    pid = os.fork()
    if pid == 0:
        try:
            snapshot, finish = LocalClient.snapshot, LocalClient.finish

            def finishing(client: LocalClient, turn: Any) -> None:
                finish(client, turn)
                if (turn.instructions.round, client.name) == (2, "a"):
                    trained.set()

            def half(client: LocalClient) -> Any:
                write = snapshot(client)

                def dying(path: Path) -> None:
                    if (
                        client.context.round == 1
                        and threading.current_thread().name != "MainThread"
                    ):
                        assert trained.wait(30)
                        path.write_bytes(b"\x08\x00\x00")
                        os._exit(DEAD)
                    write(path)

                return dying

            LocalClient.snapshot, LocalClient.finish = half, finishing  # type: ignore[method-assign]
            start(tiny, out, overrides=SHORT)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == DEAD
    names = [path.name for path in sorted((out / "checkpoints").iterdir())]
    assert names[1:] == ["round-0001"] and names[0].startswith(".round-0002")
    assert fedmosaic.resume(out, progress=False).summary["rounds"]["done"] == 3
    assert fingerprint(out) == fingerprint(plain)
    assert {path.name for path in out.rglob("*")} == {path.name for path in plain.rglob("*")}


def no_room(monkeypatch: pytest.MonkeyPatch, file: int) -> None:
    """Let the disk be full from the n-th written file of a client on."""
    written, write = [], client_module.write_tensors

    def writing(path: Path, *content: Any) -> None:
        written.append(path)
        if len(written) >= file:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, *content)

    monkeypatch.setattr(client_module, "write_tensors", writing)


@pytest.mark.parametrize("last", [2, 3])
def test_a_full_disk_is_one_line_and_leaves_the_checkpoint_before(
    last: int,
    tiny: Path,
    tmp_path: Path,
    plain: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, sets = tmp_path / "run", [part for setting in SHORT[:-1] for part in ("--set", setting)]
    with monkeypatch.context() as patched:
        no_room(patched, 4 * last - 2)  # four clients, all in memory
        status = main(["run", str(tiny), "--out", str(out), "--workers", "1", "--quiet", *sets])
    assert status == 2
    assert capsys.readouterr().err == (
        f"fedmosaic: {out}/checkpoints: the checkpoint after round {last} cannot be written: No "
        "space left on device. The one before it is complete: make room, then continue with: "
        f"fedmosaic run --resume {out}\n"
    )
    names = sorted(path.name for path in (out / "checkpoints").iterdir())
    assert names == ["round-0001", "round-0002"][: last - 1]
    fedmosaic.resume(out, progress=False)
    assert numbers(out) == numbers(plain) and files(out) == files(plain)


class Replace(Callback):
    """Put a file in place of the folder of the clients that are not in memory."""

    def __init__(self, out: Path) -> None:
        self.folder = out / CLIENTS

    def client_finished(self, round_number: int, client: str, report: Any) -> None:
        if (round_number, client) == (1, "d"):
            shutil.rmtree(self.folder)
            self.folder.write_text("no folder")


def test_a_worker_that_cannot_write_says_so(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"after round 2 cannot be written: (File|Not a)"):
        start(tiny, out, overrides=SHORT[:-1], workers=2, callbacks=[Replace(out)])
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["round-0001"]


class NoClients:
    """Have no state (the part of a transport that checkpoints need)."""

    def save(self, folder: Path) -> Any:
        return folder.mkdir


def test_a_row_does_not_change_before_the_checkpoint_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, key = ServerState(["a"]), StateKey("mean")
    write = checkpoints.write_tensors
    monkeypatch.setattr(
        checkpoints, "write_tensors", lambda *content: (time.sleep(0.2), write(*content))
    )
    writer = checkpoints.Checkpoints(RunFolder(tmp_path), on=True)
    state.before_change = writer.wait
    state.put(key, {"w": torch.ones(4)}, "a")
    writer.begin(1, {}, state, NoClients())  # type: ignore[arg-type]
    state.put(key, {"w": torch.zeros(4)}, "a")
    assert writer.waited > 0.1 and not state.get(key, "a")["w"].any()
    (latest,) = (tmp_path / "checkpoints").iterdir()
    (row,) = read_tensors(latest / "server.safetensors")[0].values()
    assert torch.equal(row, torch.ones(4))
