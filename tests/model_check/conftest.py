"""Build a tiny Llama, to be checked and to be broken."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.families import build


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("llama", tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def copied(llama: Path, tmp_path: Path) -> Path:
    """A copy of the tiny Llama, to be broken."""
    return Path(shutil.copytree(llama, tmp_path / "llama"))
