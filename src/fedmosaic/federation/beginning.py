"""Make the folder of a new run from its settings, before anything heavy is imported or loaded."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fedmosaic.config import RunSettings
from fedmosaic.data.sources import how_to_get
from fedmosaic.errors import DataError, Interrupted
from fedmosaic.federation.located import located
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.models.clock import current_time

PACKAGES = ("fedmosaic", "torch", "transformers", "peft", "numpy", "safetensors")


@contextmanager
def begun(settings: RunSettings, out: Path) -> Iterator[tuple[RunFolder, RunSettings]]:
    """Write the settings of a new run; inside the block it is checked, settled and carried out.

    A run that is killed inside can be resumed. An error before the settings are settled refuses the
    run: its folder is removed again.

    Args:
        settings: the run.
        out: its folder, empty or absent.

    Yields:
        the folder; the settings as it records them: with versions, the time, and paths in full.

    Raises:
        ConfigError: the folder holds something, or cannot be written; a client has no model or no
            tasks.
        DataError: data sets of a benchmark are missing.
        Interrupted: Ctrl-C. The run can be resumed.
    """
    settings.scenario.require_models_and_tasks(settings.name)
    folder = RunFolder.vacant(out)
    began = {
        "versions": versions(),
        "started": settings.started or current_time(),
        "settled": False,
    }
    settings = located(settings.model_copy(update=began))
    _check_data_sets(settings)
    try:
        with continuable(out):
            folder.create(settings)
            yield folder, settings
    except Exception:
        folder.withdraw()
        raise


@contextmanager
def continuable(path: Path) -> Iterator[None]:
    """Let Ctrl-C inside name the run folder from which the run can be continued.

    Raises:
        Interrupted: Ctrl-C.
    """
    try:
        yield
    except Interrupted:
        raise
    except KeyboardInterrupt as stop:
        raise Interrupted(path) from stop


def _check_data_sets(settings: RunSettings) -> None:
    """Raise DataError if data sets of a benchmark are missing."""
    scenario = settings.scenario
    tasks = [task.name for client in scenario.clients for task in client.tasks]
    if missing := how_to_get(tasks, scenario.data.root or Path()):
        raise DataError(f"{settings.name}: {missing}")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "unknown"
    return found
