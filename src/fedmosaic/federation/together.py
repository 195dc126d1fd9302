"""Train several clients of one architecture and rank as one batch (``train.together``).

Each client receives, evaluates and uploads by itself, as in any turn. In between their local
trainings run together on stacked adapters (:mod:`fedmosaic.adapters.stacked`). States, seeds and
messages are the same as one by one, so a run may continue with another ``train.together``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters.stacked import StackedAdapters
from fedmosaic.errors import TrainingError
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.client_turn import ClientTurn
from fedmosaic.federation.context import STEPS, ClientContext
from fedmosaic.federation.instructions import ClientResult, Instructions
from fedmosaic.federation.runtime import AdaptedModel, Runtime
from fedmosaic.seeding import seed_for
from fedmosaic.training.flops import FlopCounter
from fedmosaic.training.joint_optimiser import JointOptimiser
from fedmosaic.training.loop import FitReport
from fedmosaic.training.optimiser import Optimiser, ParameterGroup
from fedmosaic.training.together import Trainee, fit_together
from fedmosaic.training.upcoming import UpcomingBatches

Outcome = FitReport | TrainingError


class Together:
    """Let the clients of a process take their turns, as many together as the settings allow.

    Args:
        runtime: what the clients share.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._joint: dict[tuple[str, int], JointModel] = {}

    def work(
        self,
        group: Sequence[LocalClient],
        instructions: Mapping[str, Instructions],
        downloads: Mapping[str, bytes],
    ) -> dict[str, ClientResult]:
        """Let a group of clients take a turn; one alone takes its turn as always."""
        if len(group) == 1:
            (client,) = group
            return {client.name: client.work(instructions[client.name], downloads[client.name])}
        key, adapted = self._key(group[0]), group[0].adapted
        if key not in self._joint or len(self._joint[key].optimisers) != len(group):
            self._joint.pop(key, None)
            self._joint[key] = JointModel(adapted, len(group))
        joint = self._joint[key]
        turns = [
            _receive(client, joint, place, instructions[client.name], downloads[client.name])
            for place, client in enumerate(group)
        ]
        with _undecided(group) as trained_states:
            outcomes = joint.train(group, turns)
        for place, (client, turn) in enumerate(zip(group, turns, strict=True)):
            turn.laps.skip()
            result = joint.result(place, client, outcomes[place], trained_states[place])
            with client.turn():
                client.train(turn, result)
                client.finish(turn)
            if turn.result.fit is not None:
                turn.result.seconds["train"] += sum(turn.result.fit.seconds.values())
        return {client.name: turn.result for client, turn in zip(group, turns, strict=True)}

    def _key(self, client: LocalClient) -> tuple[str, int]:
        scenario = self.runtime.scenario
        return self.runtime.architecture(client.spec.model), scenario.rank_of(client.name)


class JointModel:
    """Hold adapters and optimisers of k clients beside the adapted model that they share.

    Args:
        adapted: the adapted model.
        clients: k.

    Attributes:
        optimisers: one for each client, over its slices of the stacked adapters.
    """

    def __init__(self, adapted: AdaptedModel, clients: int) -> None:
        self.adapted = adapted
        self.adapters = StackedAdapters(adapted.model, clients, adapted.fused_layers)
        trained, stacked = adapted.optimiser.parameters, self.adapters.parameters
        weights = self.adapters.lay_out(trained)
        self._slices = [
            {parameter: nn.Parameter(whole.data[place]) for parameter, whole in stacked.items()}
            for place in range(clients)
        ]
        self.optimisers = [self._optimiser(slices) for slices in self._slices]
        self.joint = JointOptimiser(self.optimisers, [stacked[p] for p in trained], weights)

    def _optimiser(self, slices: Mapping[nn.Parameter, nn.Parameter]) -> Optimiser:
        own = self.adapted.optimiser
        groups = [
            ParameterGroup(
                group.role,
                {key: slices[parameter] for key, parameter in group.parameters.items()},
                group.personal,
                group.objective,
            )
            for group in own.groups
        ]
        return Optimiser(groups, own.settings)

    def take(self, place: int) -> None:
        """Copy the adapted model's adapters and moments to a client's place."""
        with torch.no_grad():
            torch._foreach_copy_(list(self._slices[place].values()), list(self._slices[place]))
        self.optimisers[place].load(self.adapted.optimiser.state())

    def give(self, place: int) -> None:
        """Copy a client's adapters and moments to the adapted model."""
        with torch.no_grad():
            torch._foreach_copy_(list(self._slices[place]), list(self._slices[place].values()))
        self.adapted.optimiser.load(self.optimisers[place].state())

    def train(self, clients: Sequence[LocalClient], turns: Sequence[ClientTurn]) -> list[Outcome]:
        """Train all clients, and share the counted operations out equally."""
        first, runtime = clients[0], clients[0].runtime
        common = FlopCounter(free=runtime.towers())
        plans = [client.algorithm.local_training(client.context) for client in clients]
        steps, now = plans[0].steps, turns[0].instructions.round
        trainees = [
            Trainee(
                UpcomingBatches(client.backbone, client.stream.next_examples, steps),
                seed_for(runtime.settings.seed, client.name, now, "dropout"),
                plan.each_step,
                _counting_steps(client, turn.instructions),
            )
            for client, plan, turn in zip(clients, plans, turns, strict=True)
        ]
        is_counted = any(turn.instructions.count for turn in turns)
        outcomes = fit_together(
            first.model,
            first.backbone,
            self.adapters,
            self.joint,
            trainees,
            steps,
            first_step=now * steps,
            total_steps=runtime.scenario.rounds * steps,
            counting=lambda: common if is_counted else nullcontext(),
        )
        for client, turn, plan, outcome in zip(clients, turns, plans, outcomes, strict=True):
            if turn.instructions.count:
                client.flops.add(common.total // len(clients), STEPS)
            if plan.at_end is not None and isinstance(outcome, FitReport):
                plan.at_end()
        return outcomes

    def result(
        self, place: int, client: LocalClient, outcome: Outcome, state: dict[str, Tensor]
    ) -> Callable[[ClientContext], FitReport]:
        """Return the local training of a client that has been trained already."""

        def training(context: ClientContext) -> FitReport:
            if isinstance(outcome, TrainingError):
                raise outcome
            context.state = state
            self.give(place)
            return outcome

        return training


def _receive(
    client: LocalClient, joint: JointModel, place: int, asked: Instructions, download: bytes
) -> ClientTurn:
    """Let a client receive; its own state stays as it was, for the case that training fails."""
    turn = client.begin(asked)
    client.enter()
    client.receive(turn, download)
    joint.take(place)
    turn.laps.end("receive")
    return turn


@contextmanager
def _undecided(clients: Sequence[LocalClient]) -> Iterator[list[dict[str, Tensor]]]:
    """Let the clients' hooks work on copies of their states, which are yielded."""
    before = [client.state for client in clients]
    changed = [dict(state) for state in before]
    for client, state in zip(clients, changed, strict=True):
        client.state = state
    try:
        yield changed
    finally:
        for client, state in zip(clients, before, strict=True):
            client.state = state


def _counting_steps(
    client: LocalClient, instructions: Instructions
) -> Callable[[], AbstractContextManager[Any]]:
    @contextmanager
    def counted() -> Iterator[None]:
        with client.flops, client.flops.part(STEPS):
            yield

    return counted if instructions.count else nullcontext
