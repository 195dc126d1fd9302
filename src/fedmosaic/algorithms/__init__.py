"""Provide the federated algorithms and their registry."""

from __future__ import annotations

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
