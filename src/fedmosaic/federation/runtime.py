"""What the clients of one process share: one frozen base model per architecture, the tasks, the public examples."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters import adapter_parameters
from fedmosaic.adapters.placement import Placement
from fedmosaic.algorithms import Algorithm, make_algorithm, scenario_for
from fedmosaic.alignment import Alignment, align
from fedmosaic.config import ClientSpec, RunSettings, Scenario, TaskSpec
from fedmosaic.data import check, check_images, hold_out, load_task, public_examples
from fedmosaic.data.example import Example, Task
from fedmosaic.errors import FedMosaicError, ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions, resolve_device
from fedmosaic.seeding import rng
from fedmosaic.training.optimiser import Optimiser


class AdaptedModel:
    """An architecture's base model with the algorithm's adapters on it and an optimiser; clients of one rank take turns on it.

    Attributes:
        fresh: the adapters as built, with which every client starts (see :meth:`state`).
    """

    def __init__(
        self,
        backbone: Backbone,
        algorithm: Algorithm,
        public: Sequence[Example],
        checkpointing: bool,
        aligned: Alignment | None = None,
    ) -> None:
        self.backbone = backbone
        self.model = algorithm.build(backbone, public, aligned)
        for config in self.model.peft_config.values():
            config.base_model_name_or_path = backbone.name
        if checkpointing:
            self.model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        self.optimiser = Optimiser(algorithm.parameters(self.model), algorithm.scenario.train)
        self.parameters = {
            f"{name}/{key}": parameter
            for name in algorithm.adapters
            for key, parameter in adapter_parameters(self.model, name).items()
        }
        self.fresh = self.state()

    def state(self) -> dict[str, Tensor]:
        """Copies of all adapters' tensors, gates included, under ``<adapter>/<canonical name>``, in main memory."""
        return {
            key: parameter.detach().to("cpu", copy=True)
            for key, parameter in self.parameters.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put a client's tensors into the adapters: what :meth:`state` gave, so nothing is checked here."""
        with torch.no_grad():
            torch._foreach_copy_(
                list(self.parameters.values()), [state[key] for key in self.parameters]
            )


class Runtime:
    """Loads what clients need when it is first needed, once per process.

    Args:
        settings: the run; its scenario names models and tasks.
    """

    def __init__(self, settings: RunSettings) -> None:
        self.use(settings)
        self._backbones: dict[str, Backbone] = {}
        self._adapted: dict[tuple[str, int], AdaptedModel] = {}
        self._tasks: dict[str, Task] = {}
        self._test_sets: dict[tuple[str, int | None], Sequence[Example]] = {}
        self._public: Sequence[Example] | None = None
        self._made: dict[str, Any] = {}

    def use(self, settings: RunSettings) -> None:
        """Take the run's settings; once more when what was to be chosen automatically has been resolved."""
        self.algorithm = make_algorithm(settings.algorithm, settings.scenario, settings.seed)
        self.scenario = scenario_for(settings.algorithm, settings.scenario)
        self.settings = settings.model_copy(update={"scenario": self.scenario})

    def beside(self, settings: RunSettings) -> Runtime:
        """A runtime for other settings of the same scenario that shares base models and data with this one, but no adapters."""
        other = Runtime(settings)
        other._backbones, other._tasks = self._backbones, self._tasks
        other._test_sets, other._public = self._test_sets, self.public()
        return other

    def backbone(self, name: str) -> Backbone:
        """The bare base model of that name."""
        if name not in self._backbones:
            models = self.scenario.models
            options = ModelOptions(
                models.dtype, models.device, models.quantise, models.trust_remote_code
            )
            with self._at(self._field_of(name)):
                self._backbones[name] = Backbone.load(name, options)
        return self._backbones[name]

    def towers(self) -> list[nn.Module]:
        """The vision towers of the base models loaded so far."""
        return [backbone.tower.tower for backbone in self._backbones.values() if backbone.tower]

    def adapted(self, architecture: str, rank: int | None = None) -> AdaptedModel:
        """The base model of that name with adapters of that rank (None: ``adapter.r``) on it."""
        key = (architecture, rank or self.scenario.adapter.r)
        if key not in self._adapted:
            backbone, public = self.backbone(architecture), self.public()
            checkpointing = self.scenario.models.gradient_checkpointing
            sized = make_algorithm(
                self.settings.algorithm, self.scenario.at_rank(key[1]), self.settings.seed
            )
            with self._at(self._field_of(architecture)):
                self._adapted[key] = AdaptedModel(
                    backbone, sized, public, checkpointing, self.alignment(architecture)
                )
        return self._adapted[key]

    def alignment(self, architecture: str) -> Alignment | None:
        """A and B of an architecture that mean the same as the pivot's; None where nothing is aligned.

        Found in the package or the cache, or made now and stored, so that another process of the run finds them.
        """
        chosen, placement = self.scenario.alignment, Placement.of(self.scenario.adapter)
        if (
            chosen.method == "none"
            or not self.algorithm.shares_subspaces
            or not placement.num_blocks
        ):
            return None
        with self._at("alignment"):
            # Refinement is for each other: it takes all models of the federation at once.
            names = [architecture] if chosen.refine is None else self.scenario.models_used
            models = [self.backbone(name) for name in names]
            pivot, examples = self.backbone(chosen.pivot), self._alignment_data()
            found = align(models, pivot, examples, chosen, placement)
            return found[names.index(architecture)]

    def _alignment_data(self) -> Sequence[Example]:
        size, data = self.scenario.alignment.size, self.scenario.data
        if size is None or data.public == "none":
            return self.public()
        return public_examples(data.public, size, data.seed, root=data.root)

    def task(self, spec: TaskSpec, field: str) -> Task:
        """The task of that name, read and checked; errors name the scenario's field."""
        if spec.name not in self._tasks:
            data = self.scenario.data
            with self._at(field):
                task = load_task(
                    spec.name,
                    root=data.root,
                    seed=data.seed,
                    train_limit=data.train,
                    test_limit=data.test,
                    kind=spec.kind,
                    metric=spec.metric,
                )
                if data.validation is not None:
                    task = hold_out(task, data.validation)
                check(task)
            self._tasks[spec.name] = task
        return self._tasks[spec.name]

    def tasks(self, client: ClientSpec) -> list[Task]:
        """The client's tasks, in order."""
        number = [other.name for other in self.scenario.clients].index(client.name)
        return [
            self.task(spec, f"clients.{number}.tasks.{i}") for i, spec in enumerate(client.tasks)
        ]

    def check_model(self, client: ClientSpec, tasks: Sequence[TaskSpec]) -> None:
        """Raise ModelError if the client's model cannot look at the pictures of a task that it will meet."""
        if self.backbone(client.model).tower is not None:
            return
        for spec in tasks:
            task = self.task(spec, "tasks")
            if task.train[0].images or task.test[0].images:
                with self._at(f"clients.{self.scenario.clients.index(client)}.model"):
                    raise ModelError(
                        f"{client.model} takes text only, but task {spec.name!r} shows images"
                    )

    def unseen(self) -> list[Task]:
        """The tasks that no client trains on."""
        return [self.task(spec, f"unseen.{i}") for i, spec in enumerate(self.scenario.unseen)]

    def test_set(self, spec: TaskSpec, items: int | None) -> Sequence[Example]:
        """At most ``items`` test examples of a task: a seeded sample, the same for every client and round."""
        key = (spec.name, items)
        if key not in self._test_sets:
            examples = self.task(spec, "tasks").test
            chosen: Sequence[int] = range(len(examples))
            if items is not None and items < len(examples):
                draw = rng(self.scenario.data.seed, "test items", spec.name)
                chosen = sorted(draw.permutation(len(examples))[:items].tolist())
            self._test_sets[key] = [examples[index] for index in chosen]
        return self._test_sets[key]

    def public(self) -> Sequence[Example]:
        """The public examples of the scenario; empty where it names none."""
        if self._public is None:
            data = self.scenario.data
            with self._at("data.public"):
                named = data.public != "none"
                found = (
                    public_examples(data.public, data.public_size, data.seed, root=data.root)
                    if named
                    else []
                )
                check_images({"public": found})
            self._public = found
        return self._public

    def _field_of(self, model: str) -> str:
        """Where the scenario names a model."""
        users = [i for i, client in enumerate(self.scenario.clients) if client.model == model]
        return f"clients.{users[0]}.model" if users else "relevance.model"

    @contextmanager
    def _at(self, field: str) -> Iterator[None]:
        """Errors inside say which scenario and which of its fields they come from."""
        try:
            yield
        except FedMosaicError as error:
            raise type(error)(f"{self.settings.name}: {field}: {error}") from error

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """An object made on first use and shared by the clients of this process."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def smallest_model(runtime: Runtime, names: Sequence[str]) -> str:
    """The model with the fewest parameters; ties go to the first name."""
    sizes = {
        name: sum(p.numel() for p in runtime.backbone(name).model.parameters()) for name in names
    }
    return min(names, key=lambda name: sizes[name])


def only_miniatures(scenario: Scenario) -> bool:
    """Whether every client's model is a bundled one: then processes pay and threads do not."""
    return all(client.model.startswith("miniature/") for client in scenario.clients)


def choose_workers(settings: RunSettings) -> int:
    """How many processes: as asked; else one for each core with miniatures on a CPU, and a single one with real models,
    whose memory and device are better not divided."""
    count = settings.workers
    if count == 0:
        on_cpu = resolve_device(settings.scenario.models.device).type == "cpu"
        count = (os.cpu_count() or 1) if only_miniatures(settings.scenario) and on_cpu else 1
    return max(1, min(count, len(settings.scenario.clients)))


def prepare_torch(settings: RunSettings) -> None:
    """Set torch's thread count (as asked; else 1 for the miniatures, whose matrices are too small to share out) and, on
    CUDA, ask for deterministic kernels, so that a seed gives the same numbers there too."""
    threads = settings.threads or (1 if only_miniatures(settings.scenario) else 0)
    if threads:
        torch.set_num_threads(threads)
    if resolve_device(settings.scenario.models.device).type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=True)
