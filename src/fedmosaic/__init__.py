"""Run personalised federated learning across heterogeneous vision-language models.

    import fedmosaic

    run = fedmosaic.run("miniature/quickstart", algorithm="fedmosaic", seed=0)
    print(run.summary["self"]["last"], run.summary["others"]["last"])

Functions are imported on first use, so that ``import fedmosaic`` and ``fedmosaic --help`` are fast.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmosaic.api import (
        adapt,
        align,
        check_data,
        check_models,
        compare,
        export,
        init,
        report,
        resume,
        run,
        show,
        show_data,
    )
    from fedmosaic.config.load import load_scenario

# bitsandbytes reports at every import that a fast kernel is not installed; it works without. A
# worker process imports it while its task is unpickled, before any code of ours but this.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "adapt",
    "align",
    "check_data",
    "check_models",
    "compare",
    "export",
    "init",
    "load_scenario",
    "report",
    "resume",
    "run",
    "show",
    "show_data",
]

_HOMES = {
    "run": "fedmosaic.api",
    "compare": "fedmosaic.api",
    "resume": "fedmosaic.api",
    "show": "fedmosaic.api",
    "show_data": "fedmosaic.api",
    "export": "fedmosaic.api",
    "init": "fedmosaic.api",
    "report": "fedmosaic.api",
    "adapt": "fedmosaic.api",
    "align": "fedmosaic.api",
    "check_data": "fedmosaic.api",
    "check_models": "fedmosaic.api",
    "load_scenario": "fedmosaic.config.load",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fedmosaic' has no attribute {name!r}")
