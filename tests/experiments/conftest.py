"""Share the smallest scenario of the comparisons."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml


@pytest.fixture
def small(tiny: Path) -> Path:
    """Return a scenario of two clients of two architectures and two rounds."""
    content = yaml.safe_load(tiny.read_text())
    tiny.write_text(yaml.safe_dump({**content, "clients": content["clients"][:2], "rounds": 2}))
    return tiny
