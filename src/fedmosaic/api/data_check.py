"""Check data from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedmosaic import data_check
from fedmosaic.data.checks.report import CheckedData
from fedmosaic.errors import DataError
from fedmosaic.reporting.data_check import DataCheckProgress


def check_data(
    source: str | Path,
    *,
    root: str | Path | None = None,
    models: Sequence[str] = (),
    progress: bool = True,
) -> CheckedData:
    """List everything that is wrong with the data of a scenario, a file or a task.

    Every item and every image is read. Items are also checked for the models of a scenario's
    clients, as far as these are on this machine.

    Args:
        source: a scenario, its name or file; a data file or folder; or the name of a task.
        root: folder that paths start from; None: the scenario's ``data.root``, or the working
            folder.
        models: check the items for these models, as named in a scenario; they may be downloaded.
            Empty: those of the scenario's clients that are on this machine.
        progress: whether to show progress on standard error.

    Returns:
        counts and notes by task, and the faults; ``faults`` is empty where all is right.

    Raises:
        FedMosaicError: the scenario is wrong, ``root`` does not exist, or a model of ``models``
            cannot be loaded. What is wrong with the data is in ``faults``.
    """
    place = None if root is None else Path(root)
    if place is not None and not place.is_dir():
        raise DataError(f"the folder {place}, where paths may start, does not exist")
    plan = data_check.plan_checks(str(source), place, models)
    with DataCheckProgress(progress) as shown:
        return data_check.check_data(plan, shown)
