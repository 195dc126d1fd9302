"""Fork processes from one that has everything imported: they behave as fresh ones do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from short_run import files, numbers, start

from fedmosaic.federation import processes
from fedmosaic.federation.processes import ForkServer, fork_server, may_fork, start_process

pytestmark = pytest.mark.skipif(not may_fork(), reason="processes are not forked here")
CHILD = """
import os, sys
loaded = "torch" in sys.modules
def main():
    match sys.stdin.readline().strip():
        case "tell":
            print(loaded, os.environ.get("WHO"), os.getcwd(), os.getsid(0) == os.getpid())
        case "wait":
            print("waiting", flush=True)
            sys.stdin.read()
        case "fail":
            raise ValueError("told on standard error")
    return 3
if __name__ == "__main__":
    sys.exit(main())
"""


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Return a module that can be started, and its folder."""
    folder = tmp_path_factory.mktemp("child")
    (folder / "started_here.py").write_text(CHILD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        patch.setattr("fedmosaic.federation.processes.SERVER", SMALL)
        yield "started_here", folder


# Without PyTorch, which takes seconds to import.
SMALL = [
    sys.executable,
    "-c",
    "from fedmosaic.federation import fork_server as f; f.PRELOADED = (); f.main()",
]


def asked(process: Any, question: str) -> None:
    process.stdin.write(question.encode() + b"\n")
    process.stdin.flush()


@pytest.mark.parametrize("forked", [False, True])
def test_a_process_has_its_pipes_folder_variables_and_status(
    child: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked: bool
) -> None:
    module, _ = child
    with fork_server(module, needed=forked) as server:
        monkeypatch.chdir(tmp_path)
        for word, session in (("a", True), ("b", False)):
            process = start_process(module, server, environment={"WHO": word}, new_session=session)
            assert process.stdin and process.stdout and process.poll() is None
            asked(process, "tell")
            answer = process.stdout.read().decode().split()
            assert answer == ["False", word, str(tmp_path), str(session)]
            assert process.wait() == process.poll() == 3
        with (tmp_path / "log").open("wb") as log:
            process = start_process(module, server, stderr=log)
        asked(process, "fail")
        assert process.wait() == 1 and "ValueError: told" in (tmp_path / "log").read_text()
        process = start_process(module, server)
        asked(process, "wait")
        assert process.stdout and process.stdout.readline() == b"waiting\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_what_is_forked_outlives_the_server_and_its_end_is_seen(child: tuple[str, Path]) -> None:
    server = ForkServer(child[0])
    process = start_process(child[0], server)
    asked(process, "wait")
    assert process.stdout and process.stdin and process.stdout.readline() == b"waiting\n"
    server.close()
    assert process.poll() is None
    process.stdin.close()
    assert process.wait() == -9
    late = start_process(child[0], server)
    assert late.wait() == -9  # nobody starts it, and nobody waits for it


def test_a_server_ends_with_its_parent(child: tuple[str, Path]) -> None:
    code = "import os; from fedmosaic.federation import processes as p; " + (
        f"p.SERVER = {SMALL!r}; s = p.ForkServer({child[0]!r}); "
        f"p.start_process({child[0]!r}, s).poll(); "
        "print(s.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert done.returncode == -9
    deadline = time.monotonic() + 60
    while Path(f"/proc/{done.stdout.strip()}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(processes.FORK_VARIABLE, "no")
    assert not may_fork()


def test_forked_workers_have_the_numbers_of_fresh_ones(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = ForkServer.start, []
    monkeypatch.setattr(ForkServer, "start", lambda *a: made.append(real(*a)) or made[-1])
    short = ["rounds=1", "train.steps=1", "evaluation.last_items=2"]
    forked = start(tiny, tmp_path / "forked", workers=2, overrides=short)
    assert len(made) == 2 and all(process.poll() is not None for process in made)
    monkeypatch.setenv(processes.FORK_VARIABLE, "no")
    fresh = start(tiny, tmp_path / "fresh", workers=2, overrides=short)
    assert len(made) == 2
    assert numbers(forked.folder) == numbers(fresh.folder)
    assert files(forked.folder) == files(fresh.folder)
