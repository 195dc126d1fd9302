"""Prepare a process for Flower: is it installed, and what may it do to this machine?

Flower and Ray read environment variables, some of them when they are imported. So they are set
before the first ``import flwr``, and reach the processes that are started later.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fedmosaic.errors import ConfigError

SUPPORTED = "1.42"
INSTALL = "pip install 'fedmosaic[flower]'"
RAY_VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray then uses the loopback address, as it always does on macOS and Windows. By default, its
    # processes listen on every address of the machine.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    # Clients without a share of a card see those that they would see without Ray.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
# Flower and Ray read these when they are imported, and others when they need them.
READ_ON_IMPORT = {
    "flwr": ("FLWR_TELEMETRY_ENABLED",),
    "ray": ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",),
}


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
        **RAY_VARIABLES,
    }


def prepare_flower(home: Path) -> None:
    """Set the variables of :func:`flower_variables` for this process and those that it starts.

    Args:
        home: folder for the files of Flower; it is created.

    Raises:
        ConfigError: Flower is not installed or has another version, or it or Ray was imported
            before with other variables.
    """
    require_flower()
    variables = flower_variables(home)
    for package, names in READ_ON_IMPORT.items():
        late = [name for name in names if os.environ.get(name) != variables[name]]
        if late and package in sys.modules:
            raise ConfigError(
                f"{package} was imported before fedmosaic could set {', '.join(late)}: import "
                f"it later, or set {late[0]}={variables[late[0]]} before"
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
