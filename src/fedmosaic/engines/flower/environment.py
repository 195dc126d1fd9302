"""Prepare a process for Flower: is it installed, and what may it do to this machine?

Flower reads these variables when it is imported, and so do the processes that it starts. They
must be set before the first ``import flwr``.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedmosaic.errors import ConfigError

SUPPORTED = "1.42"
INSTALL = "pip install 'fedmosaic[flower]'"


def flower_variables(home: Path) -> dict[str, str]:
    """Return the environment variables of every process that uses Flower.

    Args:
        home: folder for the files of Flower, which else go to the user's home.
    """
    return {
        "FLWR_HOME": str(home.absolute()),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        # Everything is installed; by default, Flower makes an environment for every run.
        "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def prepare_flower(home: Path) -> None:
    """Set the variables of :func:`flower_variables` for this process and those that it starts.

    Args:
        home: folder for the files of Flower; it is created.

    Raises:
        ConfigError: Flower is not installed, has another version, or was imported before.
    """
    require_flower()
    variables = flower_variables(home)
    late = [name for name, value in variables.items() if os.environ.get(name) != value]
    if late and "flwr" in sys.modules:
        raise ConfigError(
            f"flwr was imported before fedmosaic could set {', '.join(late)}: "
            "import flwr later, or set these variables before"
        )
    home.mkdir(parents=True, exist_ok=True)
    os.environ.update(variables)


def require_flower() -> None:
    """Check that Flower is installed, without importing it.

    Raises:
        ConfigError: it is not installed, or has a version that this release was not tested with.
    """
    try:
        found = version("flwr")
    except PackageNotFoundError:
        raise ConfigError(f"Flower is not installed: {INSTALL}") from None
    if found.split(".")[:2] != SUPPORTED.split("."):
        raise ConfigError(f"Flower {found} is installed, {SUPPORTED} is needed: {INSTALL}")
