"""Load base models and tasks once a process, when they are first needed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from torch import nn

from fedmosaic.config import DataSettings, ModelSettings, Scenario, TaskSpec
from fedmosaic.data import check, check_images, hold_out, load_task, public_examples
from fedmosaic.data.background import before, task_before
from fedmosaic.data.example import Example, Task
from fedmosaic.data.records import merged, single_notes
from fedmosaic.data.validation import select
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions
from fedmosaic.seeding import rng


class ModelPool:
    """Hold the bare base models of a process.

    Args:
        settings: device, dtype and loading of the models.
        time: what chat templates that read the clock are shown; default None, that of loading.
    """

    def __init__(self, settings: ModelSettings, time: datetime | None = None) -> None:
        self.settings = settings
        self.time = time
        self._backbones: dict[str, Backbone] = {}

    def backbone(self, name: str) -> Backbone:
        """Return the base model of that name."""
        if name not in self._backbones:
            options = ModelOptions(
                dtype=self.settings.dtype,
                device=self.settings.device,
                quantise=self.settings.quantise,
                trust_remote_code=self.settings.trust_remote_code,
                attn_implementation=self.settings.attn_implementation,
                device_map=self.settings.device_map,
            )
            backbone = Backbone.load(name, options)
            backbone.chat.time = self.time or backbone.chat.time
            if backbone.images is not None and backbone.device.type == "cuda":
                backbone.images.placed.limit = int(self.settings.feature_memory * 2**30)
                backbone.images.run_together(self.settings.tower_batch)
            elif backbone.images is not None and backbone.device.type == "cpu":
                backbone.images.run_together(self.settings.tower_batch, exact=True)
            self._backbones[name] = backbone
        return self._backbones[name]

    def show_time(self, time: datetime | None) -> None:
        """Let chat templates that read the clock be shown this time, also of models loaded so far.

        None: leave it.
        """
        self.time = time or self.time
        for backbone in self._backbones.values():
            backbone.chat.time = self.time or backbone.chat.time

    def towers(self) -> list[nn.Module]:
        """Return the vision towers of the base models loaded so far."""
        loaded = (backbone.images for backbone in self._backbones.values())
        return [module for images in loaded if images for module in images.modules]


class TaskPool:
    """Hold the tasks, test sets and public examples of a process.

    Args:
        settings: where the data is, and how many examples are used.
        limit: the most tasks that stay in memory; those that were used least recently are dropped,
            and read again when they are needed. None: all stay.
    """

    def __init__(self, settings: DataSettings, limit: int | None = None) -> None:
        self.settings = settings
        self.limit = limit
        self._tasks: dict[str, Task] = {}
        self._notes: dict[str, None] = {}
        self._test_sets: dict[tuple[str, int | None], Sequence[Example]] = {}
        self._public: Sequence[Example] | None = None

    def task(self, spec: TaskSpec) -> Task:
        """Return the task of that name, read and checked."""
        task = self._tasks.pop(spec.name, None) or self._read(spec)
        self._tasks[spec.name] = task
        if self.limit is not None and len(self._tasks) > self.limit:
            dropped = next(iter(self._tasks))
            del self._tasks[dropped]
            for key in [key for key in self._test_sets if key[0] == dropped]:
                del self._test_sets[key]
        return task

    def _read(self, spec: TaskSpec) -> Task:
        settings = self.settings
        task = load_task(
            spec.name,
            root=settings.root,
            seed=settings.seed,
            train_limit=settings.train,
            test_limit=settings.test,
            kind=spec.kind,
            metric=spec.metric,
        )
        if settings.validation is not None:
            task = hold_out(task, settings.validation)
        task = task_before(task, settings.background)
        check(task)
        self._notes |= dict.fromkeys(single_notes(task.train, task.test))
        return task

    def notes(self) -> tuple[str, ...]:
        """Return what the readers have to say about the tasks that were read so far."""
        return merged(self._notes)

    def test_set(self, spec: TaskSpec, items: int | None) -> Sequence[Example]:
        """Return at most ``items`` test examples of a task (None: all).

        They are a seeded sample, the same for every client and round.
        """
        key = (spec.name, items)
        if key not in self._test_sets:
            examples = self.task(spec).test
            if items is not None and items < len(examples):
                draw = rng(self.settings.seed, "test items", spec.name)
                examples = select(examples, draw.permutation(len(examples))[:items].tolist())
            self._test_sets[key] = examples
        return self._test_sets[key]

    def public(self) -> Sequence[Example]:
        """Return the public examples; none where the scenario names no public set."""
        if self._public is None:
            found = self.public_sample(self.settings.public_size)
            check_images({"public": found})
            self._public = found
        return self._public

    def public_sample(self, size: int) -> Sequence[Example]:
        """Return another number of public examples; none where there is no public set."""
        settings = self.settings
        if settings.public == "none":
            return []
        found = public_examples(settings.public, size, settings.seed, root=settings.root)
        return before(found, settings.background)


def tasks_in_memory(scenario: Scenario) -> int | None:
    """Return how many tasks stay in main memory; None for all.

    They are those of as many clients as stay in memory. Where all clients are evaluated on all
    tasks, each would be read again for every client, so all stay.
    """
    if scenario.evaluation.others or len(scenario.clients) <= scenario.clients_in_memory:
        return None
    most = max(len(client.tasks) for client in scenario.clients)
    return scenario.clients_in_memory * most + len(scenario.unseen)
