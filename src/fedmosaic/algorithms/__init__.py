"""Federated algorithms by name. A new one is a file beside this one and an entry in the table below."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from fedmosaic.algorithms.base import Algorithm
from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.presets import PRESETS, preset
from fedmosaic.config import Scenario
from fedmosaic.config.load import parse
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
    "hetlora": "hetlora:HetLoRA",
    "flexlora": "flexlora:FlexLoRA",
    "flora": "flora:FLoRA",
    "fedsa_lora": "fedsa_lora:FedSALoRA",
    "ffa_lora": "ffa_lora:FFALoRA",
    "fedmosaic-alone": "fedmosaic_alone:FedMosaicAlone",
    "pooled": "pooled:Pooled",
}

__all__ = [
    "PRESETS",
    "TABLE",
    "Algorithm",
    "Message",
    "algorithm_class",
    "algorithm_names",
    "make_algorithm",
]


def algorithm_names() -> list[str]:
    """All algorithms, then those that are one of them with settings of their own (``presets.py``)."""
    return [*TABLE, *PRESETS]


def algorithm_class(name: str) -> type[Algorithm]:
    """The class of an algorithm. Raises ConfigError with the nearest names for an unknown one."""
    if name in PRESETS:
        return _preset_class(name)
    if name not in TABLE:
        raise ConfigError(f"unknown algorithm {name!r}.{nearest(name, algorithm_names())}")
    module, _, attribute = TABLE[name].partition(":")
    found: Any = getattr(import_module(f"fedmosaic.algorithms.{module}"), attribute)
    return found  # type: ignore[no-any-return]


def make_algorithm(name: str, scenario: Scenario, seed: int) -> Algorithm:
    """The algorithm with its options from ``scenario.algorithms[name]``; its ``scenario`` has a preset's settings.

    Raises:
        ConfigError: unknown names or options, or ranks that the algorithm cannot bring together.
    """
    kind = algorithm_class(name)
    for other in scenario.algorithms:
        if other not in algorithm_names():
            raise ConfigError(
                f"algorithms: unknown algorithm {other!r}.{nearest(other, algorithm_names())}"
            )
    if name in PRESETS:
        scenario = preset(name, scenario)
    options = parse(kind.Options, scenario.algorithms.get(name, {}), f"algorithms.{name}")
    if not kind.mixed_ranks:
        _require_one_rank(name, scenario)
    return kind(options, scenario, seed)


@cache
def _preset_class(name: str) -> type[Algorithm]:
    """The class of the algorithm that the preset is one of, under the preset's name."""
    base = algorithm_class(PRESETS[name].of)
    return type(
        base.__name__,
        (base,),
        {"name": name, "summary": PRESETS[name].summary, "__doc__": base.__doc__},
    )


def _require_one_rank(name: str, scenario: Scenario) -> None:
    first: dict[str, tuple[str, int]] = {}
    for number, client in enumerate(scenario.clients):
        rank = scenario.rank_of(client.name)
        other, expected = first.setdefault(client.model, (client.name, rank))
        if rank != expected:
            able = ", ".join(known for known in TABLE if algorithm_class(known).mixed_ranks)
            raise ConfigError(
                f"clients.{number}.r: {client.name!r} has rank {rank} and {other!r} rank {expected} on {client.model}, "
                f"but {name} needs one rank an architecture; these take any: {able}"
            )
