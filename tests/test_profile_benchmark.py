"""Divide a run's time among the rows of the profile."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks.cost import profile, profile_samples


def line(**seconds: float) -> dict[str, Any]:
    parts = {"data": 1.0, "tower": 2.0, "compute": 3.0, "hook": 0.5}
    seconds = {"receive": 0.25, "train": 7.0, "evaluate": 6.0, "upload": 0.25, **seconds}
    return {"kind": "client", "parts": parts, "seconds": seconds}


def test_the_clients_time_is_divided_as_their_lines_say() -> None:
    lines = [line(), {"kind": "round"}, line(evaluate=12.5)]
    sampled = {"phases": {"imports": 3.0, "clients": 16.75, "messages": 1.0}}
    rows = profile.rows_of(sampled, lines)
    assert list(rows) == list(profile.ROWS) and sum(rows.values()) == 20.75
    assert (rows["imports"], rows["images"], rows["evaluation"]) == (3.0, 2.0, 9.25)
    assert (rows["messages"], rows["rest of training"]) == (1.5, 0.5)
    assert {phase for phase, *_ in profile_samples.PHASES} <= {*profile.ROWS, "clients"}


def test_a_stack_belongs_to_its_first_phase() -> None:
    def stack(*places: tuple[str, str]) -> Any:
        inner: Any = sys._getframe
        for file, function in reversed(places):
            scope: dict[str, Any] = {"inner": inner}
            exec(compile(f"def {function}():\n    return inner()", file, "exec"), scope)
            inner = scope[function]
        return inner()

    loop, folder = "/x/fedmosaic/federation/round_loop.py", "/x/fedmosaic/models/backbone.py"
    assert profile_samples.phase_of(stack((loop, "_exchange"), (folder, "load"))) == "clients"
    assert profile_samples.phase_of(stack((loop, "_round"), (folder, "load"))) == "loading"
    aggregate = ("/x/fedmosaic/algorithms/fedavg.py", "aggregate")
    assert profile_samples.phase_of(stack((loop, "_round"), aggregate)) == "server"
    assert profile_samples.phase_of(stack((loop, "_round"))) == "other"
