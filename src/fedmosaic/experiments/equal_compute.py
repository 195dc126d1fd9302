"""From what a rehearsal counted to what a run may spend: local steps of equal compute, rounds of equal communication."""

from __future__ import annotations

from collections import Counter

from fedmosaic.config import Rehearsal, RunSettings
from fedmosaic.errors import ConfigError
from fedmosaic.experiments.rehearsal import RoundCost, give_steps, rehearse
from fedmosaic.federation.runtime import Runtime

REFERENCE = "sft"


def budgeted(runtime: Runtime) -> RunSettings:
    """The settings of the runtime's run with the steps and rounds that its budget allows, and what was counted for it.

    A run that brings a rehearsal (of an equal run with another seed, say) is not rehearsed again. An algorithm that no budget
    limits keeps its settings.

    Raises:
        ConfigError: the budget is less than one step, or one round, of the algorithm.
    """
    settings = runtime.settings
    if settings.scenario.budget.kind == "steps" or not runtime.algorithm.budgeted:
        return settings
    done = settings.rehearsal or (
        _compute(runtime) if settings.scenario.budget.kind == "flops" else _traffic(runtime)
    )
    settings = give_steps(settings.model_copy(update={"rehearsal": done}), done.steps)
    scenario = settings.scenario.model_copy(update={"rounds": done.rounds})
    return settings.model_copy(update={"scenario": scenario})


def equal_steps(steps: int, reference: RoundCost, own: RoundCost, clients: Counter[str]) -> float:
    """Local steps n a round with which all clients together compute what ``steps`` steps of the reference cost.

    What the algorithm's round costs is taken as ``fixed + n · step``: its training steps (with all that comes with them,
    averaged over ``steps`` of them) and what it does beside them once a round. So with sums over the clients

        n = steps · (Σ reference − Σ fixed) / Σ in_steps

    Every client takes the same number of steps, as in the paper; none is left if the fixed part alone exceeds the budget.
    """

    def total(costs: dict[str, int]) -> int:
        return sum(count * costs[architecture] for architecture, count in clients.items())

    fixed = total(own.flops) - total(own.in_steps)
    return max(0, steps * (total(reference.flops) - fixed) / max(total(own.in_steps), 1))


def _compute(runtime: Runtime) -> Rehearsal:
    settings = runtime.settings
    scenario, steps = settings.scenario, settings.scenario.train.steps
    reference = rehearse(runtime, REFERENCE, steps)
    own = (
        reference
        if settings.algorithm == REFERENCE
        else rehearse(runtime, settings.algorithm, steps)
    )
    allowed = int(
        equal_steps(steps, reference, own, Counter(client.model for client in scenario.clients))
    )
    if allowed < 1:
        raise ConfigError(
            f"{settings.name}: budget: flops: one step a round of {settings.algorithm} costs more than {steps} steps of "
            f"{REFERENCE}; give a larger train.steps"
        )
    return _rehearsal(own, allowed, scenario.rounds).model_copy(
        update={"reference": reference.flops}
    )


def _traffic(runtime: Runtime) -> Rehearsal:
    settings = runtime.settings
    scenario = settings.scenario
    assert scenario.budget.megabytes is not None
    own = rehearse(runtime, settings.algorithm, runtime.algorithm.steps)
    rounds = affordable_rounds(int(1e6 * scenario.budget.megabytes), own)
    if rounds < 1:
        most = max(own.up[name] + own.down[name] for name in own.up)
        raise ConfigError(
            f"{settings.name}: budget.megabytes = {scenario.budget.megabytes:g}: a round of {settings.algorithm} takes "
            f"{most / 1e6:.3f} MB a client"
        )
    return _rehearsal(own, runtime.algorithm.steps, min(rounds, scenario.rounds))


def affordable_rounds(limit: int, cost: RoundCost) -> int:
    """The most rounds in which no client exceeds ``limit`` bytes: its first round brings ``first_down``, every other ``down``."""
    return min(
        1 + (limit - cost.up[name] - cost.first_down[name]) // (cost.up[name] + cost.down[name])
        for name in cost.up
    )


def _rehearsal(cost: RoundCost, steps: int, rounds: int) -> Rehearsal:
    up, down = max((cost.up[name], cost.down[name]) for name in cost.up)
    return Rehearsal(steps=steps, rounds=rounds, flops=cost.flops, bytes_up=up, bytes_down=down)
