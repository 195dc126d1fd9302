"""Find federated algorithms by name.

A new algorithm is a file beside this one and an entry in :data:`TABLE`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from fedmosaic.algorithms.declared import declared
from fedmosaic.algorithms.presets import PRESETS
from fedmosaic.config import Scenario, renamed
from fedmosaic.config.load import merge, parse
from fedmosaic.errors import ConfigError, nearest

if TYPE_CHECKING:
    from fedmosaic.algorithms.base import Algorithm

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
    "fedalt": "fedalt:FedALT",
    "perada": "perada:PerAda",
    "feddistill": "feddistill:FedDistill",
    "fedmkt": "fedmkt:FedMKT",
    "takfl": "takfl:TAKFL",
    "hetlora": "hetlora:HetLoRA",
    "flexlora": "flexlora:FlexLoRA",
    "raflora": "raflora:RaFLoRA",
    "flora": "flora:FLoRA",
    "fedex-lora": "fedex_lora:FedExLoRA",
    "fedsa-lora": "fedsa_lora:FedSALoRA",
    "ffa-lora": "ffa_lora:FFALoRA",
    "rolora": "rolora:RoLoRA",
    "fed-sb": "fed_sb:FedSB",
    "pooled": "pooled:Pooled",
}
# Extensions, ablations and controls of FedMosaic that are more than other settings, and of pooled.
VARIANTS = {
    "pooled-group": "pooled:PooledGroup",
    "fedmosaic-no-communication": "fedmosaic_variants:NoCommunication",
    "fedmosaic-same-architecture": "fedmosaic_variants:SameArchitecture",
    "fedmosaic-additive": "fedmosaic_variants:Additive",
    "fedmosaic-interpolation": "fedmosaic_variants:Interpolation",
    "fedmosaic-rotated": "fedmosaic_variants:Rotated",
    "fedmosaic-additive-rotated": "fedmosaic_variants:AdditiveRotated",
    "fedmosaic-private": "fedmosaic_variants:Private",
    "fedmosaic-partial": "fedmosaic_variants:Partial",
    "fedmosaic-oracle": "fedmosaic_variants:Oracle",
    "fedmosaic-experts": "fedmosaic_experts:FedMosaicExperts",
    "experts": "experts:Experts",
}


class AlgorithmInfo(NamedTuple):
    """Describe an algorithm in a list.

    Attributes:
        name: as given to ``--algorithm``.
        summary: what it does, in one line.
        paper: its source.
    """

    name: str
    summary: str
    paper: str


def algorithm_names() -> list[str]:
    """Return the names of all algorithms, then FedMosaic's variants, then the presets."""
    return [*TABLE, *VARIANTS, *PRESETS]


def algorithm_class(name: str) -> type[Algorithm]:
    """Return the class of an algorithm; for a preset, that of the algorithm it configures.

    Raises:
        ConfigError: there is no algorithm of that name.
    """
    module, attribute = _home(name)
    found: type[Algorithm] = getattr(import_module(f"fedmosaic.algorithms.{module}"), attribute)
    return found


def describe(name: str) -> AlgorithmInfo:
    """Return name, summary and source of an algorithm or preset, without importing it.

    Raises:
        ConfigError: there is no algorithm of that name.
    """
    module, attribute = _home(name)
    summary = PRESETS[name].summary if name in PRESETS else declared(module, attribute, "summary")
    return AlgorithmInfo(name, summary, declared(module, attribute, "paper"))


def _home(name: str) -> tuple[str, str]:
    """Return the module in this package and the class of an algorithm or preset."""
    _require_known(name)
    if name in PRESETS:
        name = PRESETS[name].algorithm
    module, _, attribute = {**TABLE, **VARIANTS}[name].partition(":")
    return module, attribute


def scenario_for(name: str, scenario: Scenario) -> Scenario:
    """Return the scenario with the settings that the algorithm or preset brings.

    Applying it again changes nothing.

    Args:
        name: of the algorithm or preset.
        scenario: as loaded.

    Raises:
        ConfigError: there is no algorithm of that name, or its settings do not fit the scenario.
    """
    kind = algorithm_class(name)
    preset = PRESETS.get(name)
    defaults = preset.algorithm if preset else kind.options_of
    if preset is None and defaults is None and not kind.settings:
        return scenario
    content = merge(scenario.model_dump(), preset.settings if preset else kind.settings)
    own = scenario.algorithms
    options = {**own.get(defaults or name, {}), **own.get(name, {})}
    return parse(Scenario, {**content, "algorithms": {**own, name: options}}, name)


def make_algorithm(name: str, scenario: Scenario, seed: int) -> Algorithm:
    """Make an algorithm with its options from ``scenario.algorithms[name]``.

    The algorithm's own ``scenario`` has the settings of :func:`scenario_for`. Unless the algorithm
    is an oracle, that scenario holds no tasks and no groups of clients.

    Args:
        name: of the algorithm or preset.
        scenario: of the run.
        seed: of the run.

    Raises:
        ConfigError: unknown names or options, settings that only an oracle may have, or ranks that
            the algorithm cannot combine.
    """
    kind = algorithm_class(name)
    for other in scenario.algorithms:
        _require_known(other, "algorithms: ")
    scenario = scenario_for(name, scenario)
    options = parse(kind.Options, scenario.algorithms.get(name, {}), f"algorithms.{name}")
    if not kind.mixed_ranks:
        _require_one_rank(name, scenario)
    if not kind.oracle:
        if scenario.relevance.kind == "oracle":
            raise ConfigError(
                f"relevance.kind: oracle reads the clients' task families, which {name} may not "
                "see; use the algorithm fedmosaic-oracle"
            )
        scenario = _without_tasks(scenario)
    return kind(options, scenario, seed)


def _without_tasks(scenario: Scenario) -> Scenario:
    clients = tuple(
        client.model_copy(update={"tasks": (), "group": ""}) for client in scenario.clients
    )
    return scenario.model_copy(update={"clients": clients, "unseen": ()})


def _require_known(name: str, where: str = "") -> None:
    if former := renamed.explain_algorithm(name):
        raise ConfigError(f"{where}{former}")
    known = algorithm_names()
    if name not in known:
        raise ConfigError(f"{where}unknown algorithm {name!r}.{nearest(name, known)}")


def _require_one_rank(name: str, scenario: Scenario) -> None:
    from fedmosaic.models.architectures import architectures  # imports PyTorch

    first: dict[str, tuple[str, int]] = {}
    architecture_of = architectures(scenario.models_used)
    for number, client in enumerate(scenario.clients):
        if not client.model:  # its site names it
            continue
        rank = client.r or scenario.adapter.r
        other, expected = first.setdefault(architecture_of[client.model], (client.name, rank))
        if rank != expected:
            able = ", ".join(known for known in TABLE if algorithm_class(known).mixed_ranks)
            raise ConfigError(
                f"clients.{number}.r: {client.name!r} has rank {rank} and {other!r} rank "
                f"{expected} on {client.model}, but {name} needs one rank an architecture; these "
                f"take any: {able}"
            )
