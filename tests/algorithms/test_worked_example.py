"""The algorithm that CONTRIBUTING.md adds in one file really runs."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest

import fedmosaic
from fedmosaic import algorithms


def test_the_example_of_the_contributing_page_runs(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    source = next(code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "class FedProx" in code)
    assert len(source.splitlines()) < 80
    module = types.ModuleType("fedmosaic.algorithms.fedprox")
    exec(compile(source, "CONTRIBUTING.md", "exec"), module.__dict__)  # our own page, not data
    monkeypatch.setitem(sys.modules, "fedmosaic.algorithms.fedprox", module)
    monkeypatch.setitem(algorithms.TABLE, "fedprox", "fedprox:FedProx")

    def last_loss(mu: float) -> float:
        run = fedmosaic.run(
            tiny,
            algorithm="fedprox",
            rounds=2,
            set=[f"algorithms.fedprox.mu={mu}"],
            out=tmp_path / str(mu),
            workers=1,
            progress=False,
        )
        return float(run.summary["self"]["last"])

    assert 0 <= last_loss(0.0) <= 1
    assert 0 <= last_loss(100.0) <= 1
