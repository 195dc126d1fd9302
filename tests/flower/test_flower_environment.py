"""Test what is set and checked before Flower is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import ModuleType

import pytest

from fedmosaic.engines.flower import environment
from fedmosaic.errors import ConfigError


def install(version: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(environment, "version", lambda name: version)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Let the variables of this process be as they were after the test."""
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.delitem(sys.modules, "flwr", raising=False)
    install("1.42.3", monkeypatch)
    return monkeypatch


def test_variables_are_set_and_the_folder_is_made(
    clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    os.environ["FLWR_TELEMETRY_ENABLED"] = "1"
    environment.prepare_flower(tmp_path / "home")
    assert (tmp_path / "home").is_dir()
    assert os.environ["FLWR_HOME"] == str(tmp_path / "home")
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"


def test_an_import_before_is_refused_unless_all_was_set(
    clean: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clean.setitem(sys.modules, "flwr", ModuleType("flwr"))
    with pytest.raises(ConfigError, match=r"flwr was imported before.*FLWR_TELEMETRY"):
        environment.prepare_flower(tmp_path)
    os.environ.update(environment.flower_variables(tmp_path))
    environment.prepare_flower(tmp_path / "another")  # where the next run has its files
    assert os.environ["FLWR_HOME"] == str(tmp_path / "another")


def test_a_missing_or_other_flower_is_one_error(clean: pytest.MonkeyPatch) -> None:
    install("1.43.0", clean)
    with pytest.raises(ConfigError, match=r"Flower 1\.43\.0 .* 1\.42 .*fedmosaic\[flower\]"):
        environment.require_flower()

    def not_installed(name: str) -> str:
        raise PackageNotFoundError(name)

    clean.setattr(environment, "version", not_installed)
    with pytest.raises(ConfigError, match=r"not installed.*fedmosaic\[flower\]"):
        environment.require_flower()


MODULES = ("app", "client_app", "environment", "grid_link", "records", "simulated_clients")


def test_no_flower_is_needed_before_it_is_used() -> None:
    """What the command and a server import can be imported where Flower is not installed."""
    script = (
        "import importlib, sys\n"
        "sys.modules['flwr'] = sys.modules['ray'] = sys.modules['psutil'] = None\n"
        f"for name in {MODULES}:\n"
        "    importlib.import_module(f'fedmosaic.engines.flower.{name}')\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
