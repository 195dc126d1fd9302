"""A rehearsal: one local round of each architecture, counted, so that algorithms can be given the same budget.

It is the real thing on a small stage: all clients, fresh, take one step and the server aggregates, so that downloads are what they
will be; then the first client of each architecture does a whole local round (signatures, second adapters, distillation, whatever
the algorithm does) under a counter of operations. Nothing of it enters the run. The rehearsal's seed is fixed: runs that
differ only in their seed get the same budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.config import RunSettings
from fedmosaic.errors import TrainingError
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.client import ClientResult, Instructions
from fedmosaic.federation.round_loop import FederationServer
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import pack, unpack
from fedmosaic.training.flops import FlopCounter

SEED = 0


@dataclass(frozen=True)
class RoundCost:
    """What one round costs.

    Attributes:
        flops: operations of the local round, by architecture; in_steps: of these, those that grow with the number of steps.
        up, down: bytes sent and received, by client. first_down: received in the first round, before anything is aggregated.
        server: operations of aggregating a round, which are nobody's budget.
    """

    flops: dict[str, int]
    in_steps: dict[str, int]
    up: dict[str, int]
    down: dict[str, int]
    first_down: dict[str, int]
    server: int = 0


def rehearse(runtime: Runtime, algorithm: str, steps: int) -> RoundCost:
    """The cost of a round of ``algorithm`` with so many local steps, in the scenario of ``runtime``, whose models and data it uses.

    Raises:
        TrainingError: a client's training diverges, so that nobody can tell what its round costs.
    """
    stage = runtime.beside(_with_steps(runtime.settings, algorithm, steps))
    clients = InProcess(stage)
    server = FederationServer(stage, clients, RunFolder(Path()), Callback())

    stage.use(_with_steps(runtime.settings, algorithm, 1))
    first = {
        member.name: pack(stage.algorithm.download(server, member)) for member in server.members
    }
    results = _perform(clients, {name: Instructions(0) for name in first}, first)
    updates = {name: result.update for name, result in results.items() if result.update is not None}
    with FlopCounter(free=stage.towers()) as aggregation:
        server.algorithm.aggregate(
            server, {name: unpack(update) for name, update in updates.items()}
        )

    server.round = 1
    stage.use(_with_steps(runtime.settings, algorithm, steps))
    downloads = {
        member.name: pack(stage.algorithm.download(server, member)) for member in server.members
    }
    performers = {member.architecture: member.name for member in reversed(server.members)}
    counted = _perform(
        clients, {name: Instructions(1, count=True) for name in performers.values()}, downloads
    )
    flops = {
        architecture: counted[name].report["flops"] for architecture, name in performers.items()
    }
    return RoundCost(
        flops={architecture: found["total"] for architecture, found in flops.items()},
        in_steps={architecture: found.get("steps", 0) for architecture, found in flops.items()},
        up={name: len(update) for name, update in updates.items()},
        down={name: len(download) for name, download in downloads.items()},
        first_down={name: len(download) for name, download in first.items()},
        server=aggregation.total,
    )


def _perform(
    clients: InProcess, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
) -> dict[str, ClientResult]:
    results = dict(clients.exchange(instructions, downloads))
    for name, result in results.items():
        if result.failure:
            raise TrainingError(
                f"client {name!r} diverged while its round was counted: {result.failure}"
            )
    return results


def _with_steps(settings: RunSettings, algorithm: str, steps: int) -> RunSettings:
    """The same scenario run by ``algorithm`` with so many local steps a round."""
    return give_steps(settings.model_copy(update={"algorithm": algorithm, "seed": SEED}), steps)


def give_steps(settings: RunSettings, steps: int) -> RunSettings:
    """The run with so many local steps a round, whatever its scenario says."""
    scenario = settings.scenario
    own = {**scenario.algorithms.get(settings.algorithm, {}), "steps": steps}
    changed = scenario.model_copy(
        update={"algorithms": {**scenario.algorithms, settings.algorithm: own}}
    )
    return settings.model_copy(update={"scenario": changed})
