"""Federated algorithms by name. A new one is a file beside this one and an entry in the table below."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fedmosaic.algorithms.base import Algorithm
from fedmosaic.algorithms.message import Message
from fedmosaic.config import Scenario
from fedmosaic.configfile import parse
from fedmosaic.errors import ConfigError, nearest

TABLE = {
    "fedmosaic": "fedmosaic:FedMosaic",
    "sft": "sft:SFT",
    "fedavg": "fedavg:FedAvg",
    "fedprox": "fedprox:FedProx",
    "scaffold": "scaffold:Scaffold",
    "fedper": "fedper:FedPer",
    "ditto": "ditto:Ditto",
    "fedsim": "fedsim:FedSim",
    "feddat": "feddat:FedDAT",
    "feddpa": "feddpa:FedDPA",
    "perada": "perada:PerAda",
    "feddistill": "feddistill:FedDistill",
    "fedmkt": "fedmkt:FedMKT",
    "takfl": "takfl:TAKFL",
}

__all__ = ["TABLE", "Algorithm", "Message", "algorithm_class", "make_algorithm"]


def algorithm_class(name: str) -> type[Algorithm]:
    """The class of an algorithm. Raises ConfigError with the nearest names for an unknown one."""
    if name not in TABLE:
        raise ConfigError(f"unknown algorithm {name!r}.{nearest(name, TABLE)}")
    module, _, attribute = TABLE[name].partition(":")
    found: Any = getattr(import_module(f"fedmosaic.algorithms.{module}"), attribute)
    return found  # type: ignore[no-any-return]


def make_algorithm(name: str, scenario: Scenario, seed: int) -> Algorithm:
    """The algorithm with its options from ``scenario.algorithms[name]``. Raises ConfigError for unknown names and options."""
    kind = algorithm_class(name)
    for other in scenario.algorithms:
        if other not in TABLE:
            raise ConfigError(f"algorithms: unknown algorithm {other!r}.{nearest(other, TABLE)}")
    options = parse(kind.Options, scenario.algorithms.get(name, {}), f"algorithms.{name}")
    return kind(options, scenario, seed)
