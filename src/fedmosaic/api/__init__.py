"""Provide the library as a few functions: what the ``fedmosaic`` command does, from Python.

A function is imported when it is first used, so that looking at data does not wait for PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fedmosaic.late_import import quick_imports

if TYPE_CHECKING:
    from fedmosaic.api.adaptation import adapt
    from fedmosaic.api.alignment import align
    from fedmosaic.api.comparisons import compare, report
    from fedmosaic.api.data import show_data
    from fedmosaic.api.data_check import check_data
    from fedmosaic.api.deployment import serve, take_part
    from fedmosaic.api.models import check_models
    from fedmosaic.api.own_data import init
    from fedmosaic.api.prediction import predict
    from fedmosaic.api.runs import resume, run, show

__all__ = [
    "adapt",
    "align",
    "check_data",
    "check_models",
    "compare",
    "export",
    "init",
    "predict",
    "report",
    "resume",
    "run",
    "serve",
    "show",
    "show_data",
    "take_part",
]

_HOMES = {
    "adapt": "adaptation",
    "align": "alignment",
    "compare": "comparisons",
    "report": "comparisons",
    "show_data": "data",
    "check_data": "data_check",
    "serve": "deployment",
    "take_part": "deployment",
    "check_models": "models",
    "init": "own_data",
    "predict": "prediction",
    "export": "trained_clients",
    "resume": "runs",
    "run": "runs",
    "show": "runs",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        with quick_imports():
            home = import_module(f"{__name__}.{_HOMES[name]}")
        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
