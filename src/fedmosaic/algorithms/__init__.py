"""Provide the federated algorithms and their registry.

They are imported on first use, so that they can be listed without PyTorch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fedmosaic.algorithms.base import Algorithm
    from fedmosaic.algorithms.message import Message
    from fedmosaic.algorithms.presets import PRESETS
    from fedmosaic.algorithms.registry import (
        TABLE,
        VARIANTS,
        AlgorithmInfo,
        algorithm_class,
        algorithm_names,
        describe,
        make_algorithm,
        scenario_for,
    )

__all__ = [
    "PRESETS",
    "TABLE",
    "VARIANTS",
    "Algorithm",
    "AlgorithmInfo",
    "Message",
    "algorithm_class",
    "algorithm_names",
    "describe",
    "make_algorithm",
    "scenario_for",
]

_HOMES = {"Algorithm": "base", "Message": "message", "PRESETS": "presets"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'registry')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
