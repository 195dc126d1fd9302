"""Derive local steps of equal compute and rounds of equal communication from a rehearsal."""

from __future__ import annotations

from collections import Counter

from fedmosaic.config import Rehearsal, RunSettings
from fedmosaic.errors import ConfigError
from fedmosaic.experiments.rehearsal import RoundCost, rehearse
from fedmosaic.federation.runtime import Runtime

REFERENCE = "sft"


def resolve_budget(runtime: Runtime) -> RunSettings:
    """Return the settings with the steps and rounds that the budget allows.

    They also hold what was counted. A run that already has a rehearsal (of an equal run with
    another seed, for instance) is not rehearsed again. An algorithm that no budget limits keeps its
    settings.

    Raises:
        ConfigError: the budget is less than one step, or one round, of the algorithm.
    """
    settings = runtime.settings
    kind = settings.scenario.budget.kind
    if kind == "steps" or not runtime.algorithm.budgeted:
        return settings
    done = settings.rehearsal or (_compute(runtime) if kind == "flops" else _traffic(runtime))
    settings = settings.model_copy(update={"rehearsal": done}).with_steps(done.steps)
    scenario = settings.scenario.model_copy(update={"rounds": done.rounds})
    return settings.model_copy(update={"scenario": scenario})


def equal_steps(steps: int, reference: RoundCost, own: RoundCost, clients: Counter[str]) -> float:
    """Return the local steps n a round that cost as much as ``steps`` steps of the reference.

    The cost of the algorithm's round is taken as ``fixed + n · step``: its training steps (with
    all that belongs to them, averaged over ``steps`` of them) and what it does once a round. With
    sums over the clients

        n = steps · (Σ reference − Σ fixed) / Σ in_steps

    Every client takes the same number of steps, as in the paper. n is 0 if the fixed part alone
    exceeds the budget.

    Args:
        steps: local steps that were rehearsed.
        reference: cost of the reference's round.
        own: cost of the algorithm's round.
        clients: number of clients, by architecture.
    """

    def total(costs: dict[str, int]) -> int:
        return sum(count * costs[architecture] for architecture, count in clients.items())

    fixed = total(own.flops) - total(own.in_steps)
    return max(0, steps * (total(reference.flops) - fixed) / max(total(own.in_steps), 1))


def affordable_rounds(limit: int, cost: RoundCost) -> int:
    """Return the most rounds in which no client exceeds ``limit`` bytes.

    A client receives ``first_down`` bytes in its first round and ``down`` in every other.
    """
    return min(
        1 + (limit - cost.up[name] - cost.first_down[name]) // (cost.up[name] + cost.down[name])
        for name in cost.up
    )


def _compute(runtime: Runtime) -> Rehearsal:
    settings = runtime.settings
    scenario, steps = settings.scenario, settings.scenario.train.steps
    reference = rehearse(_without_oracle(runtime), REFERENCE, steps)
    own = (
        reference
        if settings.algorithm == REFERENCE
        else rehearse(runtime, settings.algorithm, steps)
    )
    clients = Counter(runtime.architecture(client.model) for client in scenario.clients)
    allowed = int(equal_steps(steps, reference, own, clients))
    if allowed < 1:
        raise ConfigError(
            f"{settings.name}: budget: flops: one step a round of {settings.algorithm} costs more "
            f"than {steps} steps of {REFERENCE}; give a larger train.steps"
        )
    found = _rehearsal(own, allowed, scenario.rounds)
    return found.model_copy(update={"reference": reference.flops})


def _without_oracle(runtime: Runtime) -> Runtime:
    """Return what the reference may have of a run: weights that only an oracle knows are not."""
    scenario = runtime.settings.scenario
    if scenario.relevance.kind != "oracle":
        return runtime
    relevance = scenario.relevance.model_copy(update={"kind": "rela"})  # local training uses none
    update = {
        "algorithm": REFERENCE,
        "scenario": scenario.model_copy(update={"relevance": relevance}),
    }
    return runtime.with_settings(runtime.settings.model_copy(update=update))


def _traffic(runtime: Runtime) -> Rehearsal:
    settings, steps = runtime.settings, runtime.algorithm.steps
    megabytes, rounds = settings.scenario.budget.megabytes, settings.scenario.rounds
    assert megabytes is not None
    if runtime.algorithm.downloads_grow:
        raise ConfigError(
            f"{settings.name}: budget: bytes counts one round, and later downloads of "
            f"{settings.algorithm} can be larger: set rounds in its place"
        )
    own = rehearse(runtime, settings.algorithm, steps)
    affordable = affordable_rounds(int(1e6 * megabytes), own)
    if affordable < 1:
        most = max(own.up[name] + own.down[name] for name in own.up)
        raise ConfigError(
            f"{settings.name}: budget.megabytes = {megabytes:g}: a round of {settings.algorithm} "
            f"takes {most / 1e6:.3f} MB a client"
        )
    return _rehearsal(own, steps, min(affordable, rounds))


def _rehearsal(cost: RoundCost, steps: int, rounds: int) -> Rehearsal:
    up, down = max((cost.up[name], cost.down[name]) for name in cost.up)
    return Rehearsal(steps=steps, rounds=rounds, flops=cost.flops, bytes_up=up, bytes_down=down)
