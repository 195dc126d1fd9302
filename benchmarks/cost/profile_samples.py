"""Run ``fedmosaic`` and sample where its main process is, for :mod:`benchmarks.cost.profile`.

The text of this file is the program of a process. It imports nothing of this package, so that it
measures whichever version of fedmosaic is on the path. A thread looks at the main thread's stack
every ten milliseconds. The time since the last look counts for the first of the phases below that
the stack is in.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

BEGAN = time.perf_counter()
STARTED = time.time()
INTERVAL = 0.01  # seconds
# Phase, end of the file's name, functions. The first that fits any frame of the stack counts.
PHASES = (
    ("checkpoints", "federation/background.py", ("wait",)),
    ("clients", "federation/round_loop.py", ("_exchange",)),
    ("messages", "federation/round_loop.py", ("_downloads",)),
    ("server", "algorithms/", ("aggregate",)),
    ("checkpoints", "federation/round_loop.py", ("_checkpoint", "restore")),
    ("checkpoints", "federation/run_folder.py", ("append", "adapters", "create", "write_summary")),
    ("imports", "<frozen importlib._bootstrap>", ("_find_and_load",)),
    ("alignment", "federation/runtime.py", ("alignment",)),
    ("loading", "models/backbone.py", ("load",)),
    ("loading", "federation/pools.py", ("task", "public", "public_sample", "test_set")),
    ("checks", "federation/run.py", ("resolve", "_check_views", "_check_data_sets")),
    ("checks", "federation/data_record.py", ("of",)),
    ("start of clients", "federation/transport.py", ("__init__", "introduce")),
    ("start of clients", "federation/workers.py", ("__init__", "introduce")),
    ("checkpoints", "federation/transport.py", ("save_adapters",)),
    ("checkpoints", "federation/workers.py", ("save_adapters",)),
)


def phase_of(frame: FrameType | None) -> str:
    """Return the phase of a stack."""
    places = [(f.f_code.co_filename, f.f_code.co_name) for f in _frames(frame)]
    for phase, file, functions in PHASES:
        for name, function in places:
            if function in functions and (name.endswith(file) or f"/{file}" in name):
                return phase
    return "other"


def _frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


class Sampler(threading.Thread):
    """Add up the seconds of every phase of the main thread.

    Attributes:
        seconds: seconds, by phase.
        first_turn: seconds from the start of the process until the clients begin; 0: not yet.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.first_turn = 0.0
        self.main = threading.get_ident()

    def run(self) -> None:
        last = BEGAN
        while True:
            time.sleep(INTERVAL)
            phase = phase_of(sys._current_frames().get(self.main))
            now = time.perf_counter()
            self.seconds[phase] += now - last
            if phase == "clients" and not self.first_turn:
                self.first_turn = now - BEGAN
            last = now


def main() -> int:
    """Run the command; write the phases."""
    sampler = Sampler()
    sampler.start()
    from fedmosaic.cli import main as command

    status = command(sys.argv[2:])
    found = {
        "started": STARTED,
        "first_turn": sampler.first_turn,
        "phases": dict(sampler.seconds),
        "total": time.perf_counter() - BEGAN,
    }
    Path(sys.argv[1]).write_text(json.dumps(found))
    return status
