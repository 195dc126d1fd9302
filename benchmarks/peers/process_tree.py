"""Measure a command with everything that it starts: wall time, processor time, memory, output.

Linux only: processes are read from ``/proc``, and this process adopts what the command leaves
behind (daemons of Ray or Flower), ends it, and counts its processor time.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PAGE, TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36
SECONDS_BETWEEN_SAMPLES = 0.2


@dataclass
class Measured:
    """Hold what one command needed.

    Attributes:
        wall: seconds from its start until it ended.
        processor: seconds of processor time, of all processes.
        rss: largest sum of resident memory over its processes, bytes; shared pages count for each.
        pss: the same with shared pages divided among their processes.
        marks: seconds from the start at which a line of its output matched, in order.
        output: its lines.
        status: its exit status.
    """

    wall: float = 0.0
    processor: float = 0.0
    rss: int = 0
    pss: int = 0
    marks: list[float] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    status: int = 0


def measure(
    command: Sequence[str], cwd: Path, environment: Mapping[str, str], mark: str
) -> Measured:
    """Run a command and measure it.

    Args:
        command: program and arguments.
        cwd: its working folder.
        environment: its environment variables, complete.
        mark: regular expression of the lines of output whose times are kept.
    """
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    found, usage = Measured(), _ChildTime()
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=dict(environment),
        text=True,
        errors="replace",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    reader = threading.Thread(target=_read, args=(process, mark, started, found), daemon=True)
    reader.start()
    while process.poll() is None:
        usage.sample(found)
        time.sleep(SECONDS_BETWEEN_SAMPLES)
    found.wall, found.status = time.perf_counter() - started, process.returncode
    usage.sample(found)
    _end_leftovers()
    reader.join(timeout=5)
    found.processor = usage.total()
    return found


class _ChildTime:
    """Count the processor time of all descendants of this process from now on.

    The kernel adds the time of a process to its parent's when the parent waits for it. A parent
    that never waits loses it, so that the sum of samples is taken where it is larger.
    """

    def __init__(self) -> None:
        self.before = _waited_for()
        self.seen: dict[tuple[int, int], float] = {}

    def sample(self, found: Measured) -> None:
        """Note the time of each process, and raise the peaks of memory."""
        processes = descendants(os.getpid())
        for process in processes:
            self.seen[process.pid, process.started] = process.seconds
        found.rss = max(found.rss, sum(process.rss for process in processes))
        found.pss = max(found.pss, sum(proportional_memory(p.pid) for p in processes))

    def total(self) -> float:
        """Return the seconds since the beginning."""
        return max(_waited_for() - self.before, sum(self.seen.values()))


@dataclass(frozen=True)
class Process:
    """Describe a process: its parent, its start in ticks since boot, seconds and memory."""

    pid: int
    parent: int
    started: int
    seconds: float
    rss: int


def descendants(root: int) -> list[Process]:
    """Return the processes below a process, without the process itself."""
    children: dict[int, list[Process]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            text = (folder / "stat").read_text()
            fields = text[text.rindex(")") + 2 :].split()  # the name may hold blanks
            parent, started, rss = int(fields[1]), int(fields[19]), int(fields[21]) * PAGE
            seconds = (int(fields[11]) + int(fields[12])) / TICKS
            children.setdefault(parent, []).append(
                Process(int(folder.name), parent, started, seconds, rss)
            )
    found, queue = [], [root]
    while queue:
        own = children.get(queue.pop(), [])
        found += own
        queue += [process.pid for process in own]
    return found


def proportional_memory(pid: int) -> int:
    """Return the memory of a process with shared pages divided among their users, bytes."""
    with suppress(OSError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        if line := re.search(r"^Pss: +(\d+) kB", text, re.M):
            return int(line[1]) * 1024
    return 0


def _read(process: subprocess.Popen[str], mark: str, started: float, found: Measured) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        found.output.append(line.rstrip())
        if re.search(mark, line):
            found.marks.append(time.perf_counter() - started)


def _waited_for() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _end_leftovers(patience: float = 10.0) -> None:
    """End the processes that the command left behind, and wait for them."""
    deadline = time.perf_counter() + patience
    while rest := descendants(os.getpid()):
        late = time.perf_counter() > deadline
        for process in rest:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL if late else signal.SIGTERM)
        time.sleep(0.2)
        for process in rest:
            with suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
