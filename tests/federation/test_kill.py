"""SIGKILL in the middle of a run: resuming gives the undisturbed run, bit for bit (five random places: benchmarks/kill_resume.py)."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from kill_resume import experiment


def test_a_killed_run_resumes_bit_by_bit(tiny: Path, tmp_path: Path) -> None:
    result = experiment(str(tiny), ["train.steps=6"], kills=1, seed=1, folder=tmp_path)
    assert result["metrics identical"] and result["files identical"], result
    assert result["files"] > 10 and result["metrics"] > 10
