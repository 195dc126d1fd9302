"""Perform one task at a time on a thread, and let no error pass."""

from __future__ import annotations

import threading
import time

import pytest

from fedmosaic.federation.background import Background


def test_a_task_runs_beside_its_owner_and_is_waited_for() -> None:
    background, may_end, done = Background(), threading.Event(), []

    def task() -> None:
        may_end.wait(5)
        time.sleep(0.05)
        done.append(threading.current_thread() is threading.main_thread())

    background.start(task)
    assert not done and background.waited == 0
    may_end.set()
    background.start(lambda: done.append(None))  # one at a time
    assert done[0] is False and background.waited >= 0.05
    background.wait()
    assert done == [False, None]


def test_without_a_thread_a_task_is_done_at_once() -> None:
    background, done = Background(on=False), []
    background.start(lambda: done.append(threading.current_thread() is threading.main_thread()))
    assert done == [True]
    with pytest.raises(ZeroDivisionError):
        background.start(lambda: done.append(1 // 0))


def test_an_error_is_raised_at_the_next_wait_and_warned_of_at_the_end() -> None:
    background, done = Background(), []
    background.start(lambda: done.append(1 // 0))
    with pytest.raises(ZeroDivisionError):
        background.start(lambda: done.append("never begun"))
    background.wait()
    background.start(lambda: done.append(1 // 0))
    with pytest.warns(UserWarning, match="by zero"):
        background.close()
    assert done == []


def test_an_interrupted_wait_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    background, may_end, done = Background(), threading.Event(), []
    background.start(lambda: (may_end.wait(5), done.append(True)))
    running = background._running
    assert running is not None
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(running, "exception", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        background.wait()
    may_end.set()
    background.close()
    assert done == [True]
