"""Run a federation in Flower's simulation on Ray: its numbers, and what it leaves running."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.federation.short_run import files, numbers, start

pytestmark = [
    pytest.mark.deployment,
    pytest.mark.skipif(find_spec("ray") is None, reason="Flower is not installed"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for sessions"),
]
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
# They end a minute after the process that started them.
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
ONLY_RAY = """
import sys, time
from pathlib import Path
from fedmosaic.engines.flower.simulation import Simulation
simulation = Simulation(2, 1, 0, Path(sys.argv[1]))
print(simulation.home, flush=True)
time.sleep(600)
"""


def begun(*command: str) -> subprocess.Popen[str]:
    """Start Python in a session of its own."""
    return subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(process: subprocess.Popen[str], line: str) -> str:
    """Return the first line that begins so."""
    seen = []
    for found in process.stdout or ():
        seen.append(found)
        if found.startswith(line):
            return found.strip()
    raise AssertionError("".join(seen))


def session(of: int) -> list[Any]:
    """Return the living processes of a session."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == of and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            pass
    return found


def names(of: int) -> list[str]:
    return [" ".join(process.cmdline())[:200] for process in session(of)]


def wait_for_end(of: int, seconds: float, but: tuple[str, ...] = ()) -> None:
    end = time.monotonic() + seconds
    while left := [name for name in names(of) if not name.startswith(but or ("\0",))]:
        assert time.monotonic() < end, left
        time.sleep(0.2)


def test_an_interrupted_run_leaves_nothing_and_resumes_to_the_same(
    tiny: Path, tmp_path: Path
) -> None:
    start(tiny, tmp_path / "one", overrides=["rounds=2"])
    out = tmp_path / "flower"
    options = ["--rounds", "2", "--engine", "flower", "--workers", "2", "--tracker", "none"]
    run = begun("-m", "fedmosaic", "run", str(tiny), *options, "--out", str(out))
    wait_for(run, "round   1/2")
    listening = [
        connection.laddr.ip
        for process in session(run.pid)
        for connection in process.net_connections("inet")
        if connection.status == "LISTEN"
    ]
    assert len(listening) > 4 and set(listening) <= set(LOOPBACK)
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does
    output, _ = run.communicate(timeout=120)
    assert output == f"\ninterrupted; continue with: fedmosaic run --resume {out}\n"
    assert run.returncode == 130
    assert not names(run.pid)

    resumed = begun("-m", "fedmosaic", "run", "--resume", str(out), "--quiet")
    output, _ = resumed.communicate(timeout=900)
    assert resumed.returncode == 0, output
    assert "Actor" not in output and "WARNING" not in output
    wait_for_end(resumed.pid, 0)
    assert numbers(tmp_path / "one") == numbers(out)
    assert files(tmp_path / "one") == files(out)


def test_what_ray_prints_of_its_processes_is_logged(tmp_path: Path) -> None:
    """Whether Ray prints that Ctrl-C ended a process depends on when it noticed."""
    log = tmp_path / "flower.log"
    script = (
        "import sys, logging\n"
        "from pathlib import Path\n"
        "from fedmosaic.engines.flower.simulation import logged_to, ray_messages_to\n"
        "with ray_messages_to(logging.getLogger('flwr')), logged_to(Path(sys.argv[1])):\n"
        "    from ray._private import worker\n"
        "    message = {'lines': ['A worker died'], 'pid': 'raylet', 'is_err': False}\n"
        "    worker.print_to_stdstream(message, ignore_prefix=False)\n"
        "worker.print_to_stdstream(message, ignore_prefix=False)\n"
    )
    output, _ = begun("-c", script, str(log)).communicate(timeout=60)
    assert output.count("A worker died") == 1  # as before, after the block
    assert log.read_text().count("A worker died") == 1


def test_a_killed_process_leaves_nothing_running(tmp_path: Path) -> None:
    killed = begun("-c", ONLY_RAY, str(tmp_path / "flower.log"))
    home = wait_for(killed, "/")
    end = time.monotonic() + 60
    while not any(name.startswith("ray::ClientAppActor") for name in names(killed.pid)):
        assert time.monotonic() < end, names(killed.pid)
        time.sleep(0.2)
    killed.kill()
    killed.wait()
    try:
        wait_for_end(killed.pid, 20, but=AGENTS)
    finally:
        for process in session(killed.pid):
            process.kill()
        shutil.rmtree(home)
