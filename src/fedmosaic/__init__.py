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
        predict,
        report,
        resume,
        run,
        serve,
        show,
        show_data,
        take_part,
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
    "predict",
    "report",
    "resume",
    "run",
    "serve",
    "show",
    "show_data",
    "take_part",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        home = "fedmosaic.config.load" if name == "load_scenario" else "fedmosaic.api"
        return getattr(import_module(home), name)
    raise AttributeError(f"module 'fedmosaic' has no attribute {name!r}")
