"""Let a client's samples arrive over the steps of a run, and draw its training batches."""

from __future__ import annotations

import itertools
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
    """Let the training samples of a client's tasks arrive over a run into an online memory.

    A sample is one training example of one task. A step trains on one batch. A run has
    S = ``rounds`` × ``steps_per_round`` steps, divided into phases.

    - ``mode="static"``: one phase of S steps, in which all tasks are shuffled together.
    - ``mode="dynamic"``: one phase for each task, in the order of the tasks; the samples of a task
      are shuffled. Phase k of n covers steps ⌊kS/n⌋ to ⌊(k+1)S/n⌋, an equal share of the run
      (4 tasks and 20 rounds: 5 rounds each).
    - ``arrive="evenly"``: each sample of a phase arrives once. The arrivals are spread evenly over
      the phase: before its t-th of s steps (from 0), ⌈N(t+1)/s⌉ of its N samples have arrived. So
      the first step finds a sample, and by the last step all have arrived.
    - ``arrive="at_once"``: all samples of a phase arrive before its first step.

    Arrivals follow the steps of the run, whether the client takes part in a round or not. Samples
    of rounds that it missed arrive at the start of the next round that it takes part in.

    Every draw comes from a generator named by ``seed_parts``, round and step. The state therefore
    holds no random generator, and a run that is resumed at a round draws the same batches as one
    that was never interrupted.

    Args:
        tasks: the client's tasks, in order.
        mode: ``"static"`` or ``"dynamic"``, see above; default ``"static"``.
        rounds: number of rounds of the whole run. In later rounds (of a run that was made longer)
            all samples have arrived.
        steps_per_round: batches in a round.
        batch_size: samples in a batch.
        memory_size: the most samples in memory; default None, all that arrived.
        seed_parts: names the client and the run, e.g. ``(seed, "client-3")``.
        arrive: ``"evenly"`` or ``"at_once"``, see above; default ``"evenly"``.
        temperature: temperature of the draw, see :class:`OnlineMemory`.
        decay: factor on the counts at each draw, see :class:`OnlineMemory`.

    Raises:
        ConfigError: an argument is out of range, or a dynamic stream has fewer steps than tasks.
        DataError: there are no tasks, or a task has no training examples.
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
        _require_positive(rounds=rounds, steps_per_round=steps_per_round, batch_size=batch_size)
        _require_examples(tasks)
        if mode == "dynamic" and rounds * steps_per_round < len(tasks):
            raise ConfigError(
                f"{rounds} rounds of {steps_per_round} steps are fewer steps than the"
                f" {len(tasks)} tasks; a dynamic stream takes at least one step for each task"
            )
        self.tasks = tuple(tasks)
        self.steps_per_round = steps_per_round
        self.batch_size = batch_size
        self.memory = OnlineMemory(memory_size, temperature=temperature, decay=decay)
        self._seed = tuple(seed_parts)
        # A sample's number is its task's start plus its index there.
        self._starts = np.cumsum([0, *(len(task.train) for task in tasks)])
        self._mode = mode
        self._order = self._arrival_order(self._starts)
        self._own_order = False
        self._arrived_before = self._arrival_counts(mode, arrive, rounds * steps_per_round)
        self._arrived = 0
        phase = self._starts[-1] if mode == "static" else self._starts[1]
        self._from_the_start = int(phase) if arrive == "at_once" else 0
        self._round = -1
        self._step = 0

    def begin_round(self, number: int) -> None:
        """Go to the first step of a round, counted from 0.

        Rounds may be skipped. To go back to an earlier round, load the state saved before it.
        """
        self._round, self._step = number, 0

    def next_batch(self) -> list[tuple[int, int]]:
        """Return the round's next batch, ``batch_size`` pairs of (task index, example index).

        Raises:
            ConfigError: no round was begun with :meth:`begin_round`, or the round has no step left.
        """
        if self._round < 0:
            raise ConfigError("no round was begun; call begin_round before next_batch")
        if self._step >= self.steps_per_round:
            raise ConfigError(
                f"round {self._round} has only {self.steps_per_round} steps; begin the next round"
            )
        run_step = min(
            self._round * self.steps_per_round + self._step, len(self._arrived_before) - 1
        )
        draws = rng(*self._seed, "stream", self._round, self._step)
        if self._arrived_before[run_step] > self._arrived:
            self.memory.add(self._order[self._arrived : self._arrived_before[run_step]], draws)
            self._arrived = int(self._arrived_before[run_step])
        samples = self.memory.draw(self.batch_size, draws)
        self._step += 1
        owners = np.searchsorted(self._starts, samples, side="right") - 1
        return list(zip(owners.tolist(), (samples - self._starts[owners]).tolist(), strict=True))

    def examples(self, batch: Sequence[tuple[int, int]]) -> list[Example]:
        """Return the training examples of a batch from :meth:`next_batch`."""
        return [self.tasks[task].train[index] for task, index in batch]

    def next_examples(self) -> list[Example]:
        """Return the training examples of the round's next batch."""
        return self.examples(self.next_batch())

    def arrived(self) -> list[Example]:
        """Return all training examples that have arrived so far, in order of arrival.

        Examples that have left the memory are among them.
        """
        samples = self._order[: max(self._arrived, self._from_the_start)]
        owners = np.searchsorted(self._starts, samples, side="right") - 1
        pairs = zip(owners.tolist(), (samples - self._starts[owners]).tolist(), strict=True)
        return self.examples(list(pairs))

    def state_dict(self) -> State:
        """Return all that changes: the memory's arrays and the position in the stream.

        The position is the integers ``samples`` (in all tasks), ``arrived``, ``round``, ``step``.
        After :meth:`carry_over` there is also the ``order`` of arrival, which seeds do not give.
        """
        position = {
            "samples": len(self._order),
            "arrived": self._arrived,
            "round": self._round,
            "step": self._step,
        }
        order: State = {"order": self._order.copy()} if self._own_order else {}
        return {**self.memory.state_dict(), **position, **order}

    def load_state_dict(self, state: State) -> None:
        """Continue from the saved state of a stream that was built with the same arguments.

        Raises:
            CheckpointError: the state is damaged, or it belongs to other data.
        """
        try:
            samples, arrived, round_number, step = (
                int(state[key]) for key in ("samples", "arrived", "round", "step")
            )
        except KeyError as error:
            raise CheckpointError(f"the saved stream lacks {error}; it is damaged") from error
        total = len(self._order)
        if samples != total:
            raise CheckpointError(
                f"the saved stream has {samples} training samples, this one {total};"
                " resume with the data that the run began with"
            )
        numbers = np.asarray(state.get("items", ()))
        if not 0 <= arrived <= total or (
            numbers.size and (numbers.min() < 0 or numbers.max() >= total)
        ):
            raise CheckpointError("the saved stream is damaged: it names samples that do not exist")
        if "order" in state:
            order = np.array(state["order"], dtype=np.int64)
            if not np.array_equal(np.sort(order), np.arange(total)):
                raise CheckpointError("the saved stream is damaged: it lacks samples")
            self._order, self._own_order = order, True
        self.memory.load_state_dict(state)
        self._arrived, self._round, self._step = arrived, round_number, step

    def carry_over(self, state: State, numbers: NDArray[np.int64], counts: Sequence[int]) -> State:
        """Return a state that was saved before the tasks' examples changed, for those of today.

        What has arrived and is still there has arrived; it stays in memory with its count. What is
        gone leaves the memory. All else arrives in the steps that are left, a dynamic stream's task
        by task, in an order drawn anew. If nothing is left in memory, all samples arrive anew.

        Args:
            state: from :meth:`state_dict` before the change.
            numbers: today's number of each former sample, −1 if it is gone, [former samples].
            counts: number of former samples of each task.

        Raises:
            CheckpointError: the state is damaged, or has another number of samples.
        """
        if state.get("samples") != len(numbers):
            raise CheckpointError(
                f"the saved stream has {state.get('samples')} training samples, but the record of "
                f"the data {len(numbers)}; start a new run"
            )
        before = np.asarray(
            state.get("order", self._arrival_order(np.cumsum([0, *counts]))), np.int64
        )
        memory = {key: np.asarray(state[key]) for key in ("items", "counts", "tags")}
        items = numbers[memory["items"]]
        memory = {**{key: value[items >= 0] for key, value in memory.items()}}
        memory["items"] = items[items >= 0]
        arrived = numbers[before[: int(np.asarray(state["arrived"]))]]
        arrived = arrived[arrived >= 0] if len(memory["items"]) else arrived[:0]
        late = np.setdiff1d(np.arange(self.sample_count), arrived)
        draws = rng(*self._seed, "order of late samples", int(np.asarray(state["round"])))
        ends = self._starts[[0, -1]] if self._mode == "static" else self._starts
        parts = [late[(late >= a) & (late < b)] for a, b in itertools.pairwise(ends)]
        order = np.concatenate([arrived, *(draws.permutation(part) for part in parts)])
        position = {"samples": self.sample_count, "arrived": len(arrived)}
        return {**state, **memory, **position, "order": order}

    @property
    def sample_count(self) -> int:
        """Return the number of training samples of all tasks."""
        return int(self._starts[-1])

    def _arrival_order(self, starts: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._mode == "static":
            return rng(*self._seed, "order").permutation(starts[-1])
        return np.concatenate(
            [
                first + rng(*self._seed, "order", index).permutation(last - first)
                for index, (first, last) in enumerate(itertools.pairwise(starts))
            ]
        )

    def _arrival_counts(self, mode: str, arrive: str, steps: int) -> NDArray[np.int64]:
        """Return the number of samples that have arrived before each step of the run, [steps]."""
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


def _require_positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise ConfigError(f"{name} is {value}; it must be 1 or more")


def _require_examples(tasks: Sequence[Task]) -> None:
    if not tasks:
        raise DataError("a client needs at least one task")
    for task in tasks:
        if not len(task.train):
            raise DataError(f"task {task.name!r} has no train examples; it must have at least one")


def _require_one_of(key: str, value: str, valid: Sequence[str]) -> None:
    if value not in valid:
        raise ConfigError(f"{key} is {value!r}.{nearest(value, valid)}")
