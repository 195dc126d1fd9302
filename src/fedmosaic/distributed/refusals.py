"""Refuse federations that cannot work across machines, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable

from fedmosaic.algorithms import Algorithm, make_algorithm
from fedmosaic.config import RunSettings
from fedmosaic.errors import ConfigError, FedMosaicError

SIMULATE = "Simulate it with `fedmosaic run`, or choose"


def served(settings: RunSettings, say: Callable[[str], None] = lambda line: None) -> RunSettings:
    """Return the settings without what each site names itself, and say what is dropped.

    Args:
        settings: of a scenario, which may name models and tasks for a simulation.
        say: called with a line for the user.
    """
    scenario = settings.scenario
    named = any(client.model or client.tasks for client in scenario.clients) or scenario.unseen
    if not named:
        return settings
    say("models and tasks in the scenario are not used: each site names its own")
    clients = tuple(c.model_copy(update={"model": "", "tasks": ()}) for c in scenario.clients)
    changed = scenario.model_copy(update={"clients": clients, "unseen": ()})
    return settings.model_copy(update={"scenario": changed})


def require_deployable(settings: RunSettings) -> Algorithm:
    """Refuse what cannot work where every client is at its own site; return the algorithm.

    Raises:
        ConfigError: names the setting and the way out.
    """
    scenario, name = settings.scenario, settings.algorithm
    algorithm = make_algorithm(name, scenario, settings.seed)
    aligns = algorithm.shares_subspaces and scenario.adapter.num_blocks
    problems = {
        "algorithm": algorithm.oracle
        and f"{name} reads the data of all clients, and across machines none leaves its site. "
        f"{SIMULATE} another algorithm",
        "budget": scenario.budget.kind != "steps"
        and f"{scenario.budget.kind} needs a rehearsal with all models in one place. {SIMULATE} "
        "budget: steps",
        "adapter.block_rule": aligns
        and scenario.adapter.block_rule == "cka"
        and f"cka compares all layers of all models in one place. {SIMULATE} depth or even",
        "alignment.refine.join": aligns
        and scenario.alignment.refine is not None
        and scenario.alignment.refine.join is not None
        and f"the alignments of a folder are at no site. {SIMULATE} refine: null",
    }
    for field, problem in problems.items():
        if problem:
            raise ConfigError(f"{settings.name}: {field}: {problem}")
    return algorithm


def require_for_server_half(
    settings: RunSettings, fingerprint_of: Callable[[str], str], public: Callable[[], object]
) -> None:
    """Require at the server what its half of an algorithm computes with: models, public examples.

    Args:
        settings: the run, settled.
        fingerprint_of: loads the model of a name and returns its fingerprint.
        public: loads the public examples.

    Raises:
        ConfigError: the server does not have them, or another model of that name.
    """
    algorithm = make_algorithm(settings.algorithm, settings.scenario, settings.seed)
    if not algorithm.needs_public:
        return
    does = f"{settings.name}: {settings.algorithm} computes with models and public data at the"
    try:
        public()
    except FedMosaicError as error:
        raise ConfigError(f"{does} server, which has no public data: {error}") from error
    known = settings.deployed.architectures if settings.deployed else {}
    for name, weights in known.items():
        try:
            found = fingerprint_of(name)
        except FedMosaicError as error:
            raise ConfigError(f"{does} server, which has no model {name!r}: {error}") from error
        if found != weights:
            raise ConfigError(
                f"{does} server, whose model {name!r} has other weights (fingerprint {found}) than "
                f"that of the clients ({weights}); give the server the same model"
            )
