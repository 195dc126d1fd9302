"""Count the operations and bytes of one round, so that algorithms can be given the same budget.

A rehearsal runs real clients. All of them, with fresh adapters, take one step and the server
aggregates, so that downloads are as in the run. Then the first client of each architecture does a
whole local round under a counter of operations, with everything the algorithm does (signatures,
second adapters, distillation). Nothing of it enters the run. The seed of a rehearsal is fixed, so
runs that differ only in their seed get the same budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedmosaic.errors import TrainingError
from fedmosaic.federation.context import ServerContext
from fedmosaic.federation.instructions import ClientResult, Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import pack, unpack
from fedmosaic.training.flops import FlopCounter

SEED = 0


@dataclass(frozen=True)
class RoundCost:
    """Hold what one round costs.

    Attributes:
        flops: operations of the local round, by architecture.
        in_steps: of these, operations that grow with the number of steps, by architecture.
        up: bytes sent, by client; the mean of two rounds where parameters are sent in turn.
        down: bytes received, by client.
        first_down: bytes received in the first round, before anything is aggregated, by client.
        server: operations of aggregating a round, which no budget limits.
    """

    flops: dict[str, int]
    in_steps: dict[str, int]
    up: dict[str, int]
    down: dict[str, int]
    first_down: dict[str, int]
    server: int = 0


def rehearse(runtime: Runtime, algorithm: str, steps: int) -> RoundCost:
    """Return the cost of a round of an algorithm.

    Args:
        runtime: gives the scenario, and shares its base models and data.
        algorithm: name of the algorithm.
        steps: local steps of the round.

    Raises:
        TrainingError: a client's training diverges, so that its round cannot be counted.
    """
    settings = runtime.settings.model_copy(update={"algorithm": algorithm, "seed": SEED})
    stage = runtime.with_settings(settings.with_steps(steps))
    clients = InProcess(stage)
    server = ServerContext(stage, clients.introduce())

    first = _downloads(stage, server)
    results = _work(clients, {name: Instructions(0, steps=1) for name in first}, first)
    updates = {name: result.update for name, result in results.items() if result.update is not None}
    with FlopCounter(free=stage.towers()) as aggregation:
        stage.algorithm.aggregate(
            server, {name: unpack(update) for name, update in updates.items()}
        )

    server.round = 1
    downloads = _downloads(stage, server)
    performers = {member.architecture: member.name for member in reversed(server.members)}
    counted = _work(
        clients, {name: Instructions(1, count=True) for name in performers.values()}, downloads
    )
    flops = {architecture: counted[name].flops or {} for architecture, name in performers.items()}
    up = {name: len(update) for name, update in updates.items()}
    if stage.algorithm.alternates:
        later = {n: result.update for n, result in counted.items() if result.update is not None}
        up = _mean_sizes(server, up, {name: len(update) for name, update in later.items()})
        # From now on every parameter that is sent in turn has been averaged, and all travel down.
        stage.algorithm.aggregate(server, {n: unpack(update) for n, update in later.items()})
        downloads = _downloads(stage, server)
    return RoundCost(
        flops={architecture: found["total"] for architecture, found in flops.items()},
        in_steps={architecture: found.get("steps", 0) for architecture, found in flops.items()},
        up=up,
        down={name: len(download) for name, download in downloads.items()},
        first_down={name: len(download) for name, download in first.items()},
        server=aggregation.total,
    )


def _downloads(runtime: Runtime, server: ServerContext) -> dict[str, bytes]:
    return {
        member.name: pack(runtime.algorithm.download(server, member)) for member in server.members
    }


def _mean_sizes(
    server: ServerContext, first: Mapping[str, int], second: Mapping[str, int]
) -> dict[str, int]:
    """Return the mean of what a client sends in two rounds, rounded up.

    Args:
        server: knows the clients' architectures.
        first: bytes by client.
        second: bytes of one client of each architecture.
    """
    of = {member.name: member.architecture for member in server.members}
    sizes = {of[name]: size for name, size in second.items()}
    return {name: -(-(size + sizes[of[name]]) // 2) for name, size in first.items()}


def _work(
    clients: InProcess, instructions: Mapping[str, Instructions], downloads: Mapping[str, bytes]
) -> dict[str, ClientResult]:
    results = dict(clients.exchange(instructions, downloads))
    for name, result in results.items():
        if result.failure:
            raise TrainingError(
                f"client {name!r} diverged while its round was counted: {result.failure}"
            )
    return results
