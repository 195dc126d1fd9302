"""Test that a training step never waits for the device, on a card that is pretended."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("card.py")


def test_a_step_never_waits_for_the_card() -> None:
    paths = [str(SCRIPT.parents[1]), str(SCRIPT.parents[2]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "fedmosaic"], env=environment, capture_output=True, text=True
    )
    assert found.stdout.endswith("never waited\n"), found.stderr[-2000:]
