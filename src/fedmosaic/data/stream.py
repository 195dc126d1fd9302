"""A client's stream: in which order its samples arrive over the run, and the batches it trains on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedmosaic.data.example import Example, Task
from fedmosaic.data.memory import OnlineMemory, State
from fedmosaic.errors import CheckpointError, ConfigError, DataError, nearest
from fedmosaic.seeding import rng

MODES = ("static", "dynamic")
ARRIVALS = ("evenly", "at_once")


class ClientStream:
    """The training samples of a client's tasks, arriving over the steps of a run into an :class:`OnlineMemory`.

    A run has S = ``rounds`` × ``steps_per_round`` steps; a step is one batch.

    - ``mode="static"``: one phase of S steps, all tasks shuffled together.
    - ``mode="dynamic"``: one phase for each task, in their order, shuffled within; phase k of n is steps ⌊kS/n⌋ to
      ⌊(k+1)S/n⌋, an equal share of the rounds (4 tasks, 20 rounds: 5 rounds each).
    - ``arrive="evenly"`` (default): each sample of a phase arrives once, spread evenly over the phase: before its t-th
      step (from 0) of s, ⌈N(t+1)/s⌉ of N have arrived. So the first step has a sample, and all have come by the last.
    - ``arrive="at_once"``: a phase's samples all arrive before its first step.

    Arrival follows the run's clock, not the client's work: what arrived in rounds it sat out waits for it, so partial
    participation needs nothing special. Every draw is named by ``seed_parts``, round and step; nothing about random
    generators is saved, and a run resumed at a round draws what an undisturbed one would.

    Args:
        tasks: the client's tasks, in order.
        rounds: rounds of the whole run. A round beyond them (a run made longer) finds all samples arrived.
        steps_per_round: batches a round.
        batch_size: samples a batch.
        memory_size: the most samples kept; None keeps all that arrived.
        seed_parts: names the client and the run, e.g. ``(seed, "client-3")``.
        temperature, decay: see :class:`OnlineMemory`.

    Raises:
        ConfigError: an argument out of range, or fewer steps than tasks in a dynamic stream.
        DataError: no tasks, or a task without training examples.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        mode: Literal["static", "dynamic"] = "static",
        rounds: int,
        steps_per_round: int,
        batch_size: int,
        memory_size: int | None = None,
        seed_parts: Sequence[int | str] = (0,),
        arrive: Literal["evenly", "at_once"] = "evenly",
        temperature: float = 0.125,
        decay: float = 0.99,
    ) -> None:
        _require_one_of("stream", mode, MODES)
        _require_one_of("arrive", arrive, ARRIVALS)
        for name, value in (
            ("rounds", rounds),
            ("steps_per_round", steps_per_round),
            ("batch_size", batch_size),
        ):
            if value < 1:
                raise ConfigError(f"{name} is {value}; it must be 1 or more")
        if not tasks:
            raise DataError("a client needs at least one task")
        for task in tasks:
            if not len(task.train):
                raise DataError(f"task {task.name!r} has no train examples")
        if mode == "dynamic" and rounds * steps_per_round < len(tasks):
            raise ConfigError(
                f"{rounds} rounds of {steps_per_round} steps are fewer steps than the {len(tasks)} tasks"
            )
        self.tasks = tuple(tasks)
        self.steps_per_round = steps_per_round
        self.batch_size = batch_size
        self.memory = OnlineMemory(memory_size, temperature=temperature, decay=decay)
        self._seed = tuple(seed_parts)
        # A sample's number is its task's start plus its index there.
        self._starts = np.cumsum([0, *(len(task.train) for task in tasks)])
        self._order = self._arrival_order(mode)
        self._arrived_by = self._arrival_counts(mode, arrive, rounds * steps_per_round)
        self._arrived = 0
        self._round = -1
        self._step = 0

    def begin_round(self, round: int) -> None:
        """Goes to the first step of a round (from 0); rounds may be left out, but not gone back to with this state."""
        self._round, self._step = round, 0

    def next_batch(self) -> list[tuple[int, int]]:
        """The round's next batch as (task index, example index) pairs, ``batch_size`` of them.

        Raises:
            ConfigError: before the first :meth:`begin_round`, or after the round's last step.
        """
        if self._round < 0:
            raise ConfigError("begin_round must come before next_batch")
        if self._step >= self.steps_per_round:
            raise ConfigError(f"round {self._round} has only {self.steps_per_round} steps")
        clock = min(self._round * self.steps_per_round + self._step, len(self._arrived_by) - 1)
        draws = rng(*self._seed, "stream", self._round, self._step)
        if self._arrived_by[clock] > self._arrived:
            self.memory.add(self._order[self._arrived : self._arrived_by[clock]], draws)
            self._arrived = int(self._arrived_by[clock])
        samples = self.memory.draw(self.batch_size, draws)
        self._step += 1
        owners = np.searchsorted(self._starts, samples, side="right") - 1
        return list(zip(owners.tolist(), (samples - self._starts[owners]).tolist(), strict=True))

    def examples(self, batch: Sequence[tuple[int, int]]) -> list[Example]:
        """The training examples that a batch names."""
        return [self.tasks[task].train[index] for task, index in batch]

    def state_dict(self) -> State:
        """All that changes: the memory's arrays and the scalars ``samples``, ``arrived``, ``round``, ``step``."""
        position = {
            "samples": len(self._order),
            "arrived": self._arrived,
            "round": self._round,
            "step": self._step,
        }
        return {**self.memory.state_dict(), **position}

    def load_state_dict(self, state: State) -> None:
        """Continues from a saved state of a stream built with the same arguments.

        Raises:
            CheckpointError: the state is damaged or belongs to other data.
        """
        try:
            samples, arrived, round_, step = (
                int(state[key]) for key in ("samples", "arrived", "round", "step")
            )
        except KeyError as error:
            raise CheckpointError(f"the saved stream lacks {error}") from error
        total = len(self._order)
        if samples != total:
            raise CheckpointError(
                f"the saved stream has {samples} training samples, this one {total}: other data"
            )
        numbers = np.asarray(state.get("items", ()))
        if not 0 <= arrived <= total or (
            numbers.size and (numbers.min() < 0 or numbers.max() >= total)
        ):
            raise CheckpointError("the saved stream is damaged: it names samples that do not exist")
        self.memory.load_state_dict(state)
        self._arrived, self._round, self._step = arrived, round_, step

    def _arrival_order(self, mode: str) -> NDArray[np.int64]:
        if mode == "static":
            return rng(*self._seed, "order").permutation(self._starts[-1])
        return np.concatenate(
            [
                self._starts[index] + rng(*self._seed, "order", index).permutation(len(task.train))
                for index, task in enumerate(self.tasks)
            ]
        )

    def _arrival_counts(self, mode: str, arrive: str, steps: int) -> NDArray[np.int64]:
        """How many samples have arrived before each step of the run, [steps]."""
        ends = self._starts[[0, -1]] if mode == "static" else self._starts
        phases = len(ends) - 1
        counts = np.empty(steps, np.int64)
        for phase in range(phases):
            first, last = phase * steps // phases, (phase + 1) * steps // phases
            new = ends[phase + 1] - ends[phase]
            elapsed = np.arange(1, last - first + 1)
            counts[first:last] = ends[phase] + (
                -(-new * elapsed // (last - first)) if arrive == "evenly" else new
            )
        return counts


def _require_one_of(key: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ConfigError(f"{key} is {value!r}.{nearest(value, valid)}")
