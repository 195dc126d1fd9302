"""List the parts of the evidence: their scenarios, seeds and learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario

SEEDS = {0: (0, 1, 2), 1: (3, 4)}  # by pretraining of the bundled models
ALL_SEEDS = tuple(seed for seeds in SEEDS.values() for seed in seeds)
# Learning rates. A row tries the middle three of its part; while its best one is the lowest or the
# highest that it has tried, it tries the next one as well.
RATES = ("6.25e-5", "1.25e-4", "2.5e-4", "5e-4", "1e-3", "2e-3", "4e-3", "8e-3", "1.6e-2", "3.2e-2")
CHOOSING_SEEDS = (1000, 1001)
SHORT = ("rounds=8", "evaluation.every=8", "evaluation.last_items=30")
SETTINGS = (*SHORT, "budget=flops")
UNLIMITED = (*SHORT, "budget=steps", "algorithms.fedmosaic.steps=12")
# Clients of one architecture train as one batch where the algorithm can. This is faster, and
# changes numbers by rounding: parts that were run before train one by one.
TOGETHER = "train.together=10"
STATIC, DYNAMIC, HOMOGENEOUS, UNMATCHED = "static", "dynamic", "homogeneous", "unmatched"
LANGUAGE = "language"


def pretraining_of(seed: int) -> int:
    """Return the pretraining of the bundled models that a seed uses."""
    return next((number for number, seeds in SEEDS.items() if seed in seeds), 0)


@dataclass(frozen=True)
class Part:
    """Describe a part of the evidence.

    Attributes:
        scenario: name of its scenario.
        settings: what all its runs change in the scenario.
        rates_of: the part whose learning rates it takes; empty: its own are chosen.
        same_steps: the part whose runs it shares where both give a row the same steps.
        middle_rate: the learning rate of :data:`RATES` that a row tries with both its neighbours.
        bundled: whether its models are the bundled ones, which have two pretrainings.
    """

    scenario: str
    settings: Sequence[str] = (*SETTINGS, TOGETHER)
    rates_of: str = ""
    same_steps: str = ""
    middle_rate: str = "4e-3"
    bundled: bool = True

    def pretraining_of(self, seed: int) -> int:
        """Return the pretraining of its models that a seed uses."""
        return pretraining_of(seed) if self.bundled else 0


PARTS = {
    STATIC: Part("miniature/hetero", SETTINGS),
    DYNAMIC: Part("miniature/dynamic", SETTINGS),
    HOMOGENEOUS: Part("miniature/homo-llama"),
    UNMATCHED: Part("miniature/hetero", UNLIMITED, rates_of=STATIC, same_steps=STATIC),
    LANGUAGE: Part(
        "reference/hetero",
        ("evaluation.every=8", "budget=flops", "models.dtype=bfloat16"),
        middle_rate="5e-4",
        bundled=False,
    ),
}
SCENARIOS = {name: part.scenario for name, part in PARTS.items()}
MINIATURES = tuple(name for name, part in PARTS.items() if part.bundled)


@cache
def scenario(part: str, pretraining: int) -> Scenario:
    """Return the scenario of a part with the bundled models of a pretraining.

    Args:
        part: a name of :data:`PARTS`.
        pretraining: number of the pretraining.
    """
    found = load_scenario(PARTS[part].scenario, PARTS[part].settings)
    if pretraining:
        clients = tuple(
            client.model_copy(update={"model": f"{client.model}@{pretraining}"})
            for client in found.clients
        )
        found = found.model_copy(update={"clients": clients})
    return found
