"""Write a checkpoint on a thread, while the next round computes."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future


class Background:
    """Perform one task at a time on a thread, beside what its owner does.

    Args:
        on: False: every task is performed at once, before :meth:`start` returns.

    Attributes:
        waited: seconds that :meth:`wait` has taken in all.
    """

    def __init__(self, on: bool = True) -> None:
        self.on = on
        self.waited = 0.0
        self._running: Future[None] | None = None
        self._lock = threading.Lock()

    def start(self, task: Callable[[], None]) -> None:
        """Begin a task, after the one before has ended.

        Raises:
            Exception: that of the task before; without a thread, that of this task.
        """
        self.wait()
        if not self.on:
            task()
            return
        running = self._running = Future[None]()
        threading.Thread(target=_perform, args=(task, running), name="background").start()

    def wait(self) -> None:
        """Wait until no task is being performed.

        Raises:
            Exception: that of the task, at the first call after it.
        """
        if self._running is None:
            return
        clock = time.perf_counter()
        with self._lock:
            # After an interrupted wait the task is still here, for the next one.
            error = self._running.exception() if self._running else None
            self._running = None
            self.waited += time.perf_counter() - clock
        if error is not None:
            raise error

    def close(self) -> None:
        """Wait for the task, when another error is on its way already."""
        try:
            self.wait()
        except Exception as error:
            warnings.warn(str(error), stacklevel=2)


def _perform(task: Callable[[], None], running: Future[None]) -> None:
    try:
        task()
    except BaseException as error:
        running.set_exception(error)
    else:
        running.set_result(None)
