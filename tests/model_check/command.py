"""Call ``fedmosaic model check`` as a program does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmosaic.cli import main


def check(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, Any]:
    """Return the exit status and the JSON of the command; nothing else is on standard output."""
    capsys.readouterr()
    status = main(["model", "check", "--quiet", "--json", *map(str, words)])
    return status, json.loads(capsys.readouterr().out)
