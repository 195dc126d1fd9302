"""Share base models, tasks, alignments and adapted models between the clients of one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters import adapter_parameters
from fedmosaic.adapters.frozen_products import pack_frozen_weights
from fedmosaic.adapters.fused_layers import fused_layers
from fedmosaic.adapters.placement import Placement
from fedmosaic.algorithms import Algorithm, make_algorithm, scenario_for
from fedmosaic.alignment import Alignment, align
from fedmosaic.alignment.deployment.remote import Aligner
from fedmosaic.config import ClientSpec, ModelSettings, RunSettings, TaskSpec
from fedmosaic.data.check import location
from fedmosaic.data.example import Example, Task
from fedmosaic.errors import FedMosaicError
from fedmosaic.federation.pools import ModelPool, TaskPool, tasks_in_memory
from fedmosaic.models.architectures import architectures
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.checkpointing import recompute_activations
from fedmosaic.models.compiling import compile_layers
from fedmosaic.models.item_check import first_refusal
from fedmosaic.training.optimiser import Optimiser


class AdaptedModel:
    """Put the algorithm's adapters and an optimiser on a base model.

    Clients of one architecture and rank take turns on it.

    Attributes:
        fresh: the adapters as built, with which every client starts (see :meth:`state`).
        parameters: the adapters' parameters, gates included, by ``<adapter>/<canonical name>``.
        fused_layers: the decoder layers that can train with fewer operations.
    """

    def __init__(
        self,
        backbone: Backbone,
        algorithm: Algorithm,
        public: Sequence[Example],
        settings: ModelSettings,
        aligned: Alignment | None = None,
    ) -> None:
        self.backbone = backbone
        self.model = algorithm.build(backbone, public, aligned)
        for config in self.model.peft_config.values():
            config.base_model_name_or_path = backbone.name
        base = self.model.get_base_model()
        if settings.gradient_checkpointing:
            recompute_activations(backbone.name, base)
        if settings.compile:
            compile_layers(backbone.name, base.get_submodule(backbone.layers_prefix).children())
        elif algorithm.scenario.train.packed_weights:
            pack_frozen_weights(self.model)
        fuse = algorithm.scenario.train.fused_layers
        self.fused_layers = fused_layers(self.model) if fuse else []
        self.optimiser = Optimiser(algorithm.parameters(self.model), algorithm.scenario.train)
        self.parameters = {
            f"{name}/{key}": parameter
            for name in algorithm.adapters
            for key, parameter in adapter_parameters(self.model, name).items()
        }
        self.fresh = self.state()

    def state(self) -> dict[str, Tensor]:
        """Copy all adapter tensors to main memory, by ``<adapter>/<canonical name>``."""
        return {
            key: parameter.detach().to("cpu", copy=True)
            for key, parameter in self.parameters.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Copy tensors that :meth:`state` returned into the adapters, without checks."""
        with torch.no_grad():
            torch._foreach_copy_(
                list(self.parameters.values()), [state[key] for key in self.parameters]
            )


class Runtime:
    """Load what clients need when it is first needed, once a process.

    The settings never change; :meth:`with_settings` makes another runtime for other settings.

    Args:
        settings: the run; its scenario names models and tasks.
        models: base models that are loaded already; None for an empty pool.
        tasks: tasks that are loaded already; None for an empty pool.
        aligner: aligns a model whose pivot is elsewhere; None: the pivot is loaded here.

    Attributes:
        algorithm: the run's algorithm with its options.
        scenario: the scenario with the algorithm's own settings applied.
        settings: the run's settings with that scenario.
        secret: from which the noise of a clipped signature is drawn; empty in a simulation, where
            it is drawn from the run's seed.
    """

    secret = b""

    def __init__(
        self,
        settings: RunSettings,
        models: ModelPool | None = None,
        tasks: TaskPool | None = None,
        aligner: Aligner | None = None,
    ) -> None:
        self.algorithm = make_algorithm(settings.algorithm, settings.scenario, settings.seed)
        self.scenario = scenario_for(settings.algorithm, settings.scenario)
        self.settings = settings.model_copy(update={"scenario": self.scenario})
        self.models = models or ModelPool(self.scenario.models, settings.started)
        self.tasks = tasks or TaskPool(self.scenario.data, tasks_in_memory(self.scenario))
        self.aligner = aligner
        self._adapted: dict[tuple[str, int], AdaptedModel] = {}
        self._cached: dict[str, Any] = {}

    def with_settings(self, settings: RunSettings) -> Runtime:
        """Return a runtime for other settings, with adapters of its own.

        It shares base models and tasks with this one where their settings are the same.
        """
        scenario = settings.scenario
        runtime = Runtime(
            settings,
            self.models if scenario.models == self.models.settings else None,
            self.tasks if scenario.data == self.tasks.settings else None,
            self.aligner,
        )
        runtime.secret = self.secret
        return runtime

    # --- base models and adapters -------------------------------------------------------------
    def backbone(self, name: str) -> Backbone:
        """Return the bare base model of that name."""
        with self.naming(self.field_of(name)):
            return self.models.backbone(self.architecture(name))

    def architecture(self, name: str) -> str:
        """Return the name under which a model's architecture is known: its first in the scenario.

        Two names are one architecture where they mean one model.
        """
        return self._architectures.get(name, name)

    @cached_property
    def _architectures(self) -> dict[str, str]:
        others = (self.scenario.alignment.pivot, self.scenario.relevance.model)
        named = [*self.scenario.models_used, *(name for name in others if name != "smallest")]
        return architectures(named)

    def parameter_count(self, name: str) -> int:
        """Return the number of parameters of the base model of that name."""
        return sum(p.numel() for p in self.backbone(name).model.parameters())

    def towers(self) -> list[nn.Module]:
        """Return the vision towers of the base models loaded so far."""
        return self.models.towers()

    def adapted(self, architecture: str, rank: int | None = None) -> AdaptedModel:
        """Return a base model with adapters of that rank (None: ``adapter.r``) on it."""
        architecture = self.architecture(architecture)
        key = (architecture, rank or self.scenario.adapter.r)
        if key not in self._adapted:
            backbone, public = self.backbone(architecture), self.public()
            sized = make_algorithm(
                self.settings.algorithm, self.scenario.at_rank(key[1]), self.settings.seed
            )
            with self.naming(self.field_of(architecture)):
                aligned = self.alignment(architecture)
                self._adapted[key] = AdaptedModel(
                    backbone, sized, public, self.scenario.models, aligned
                )
        return self._adapted[key]

    def alignment(self, architecture: str) -> Alignment | None:
        """Return an architecture's A and B, aligned to the pivot's; None where nothing is aligned.

        An alignment is found in the package or the cache. Otherwise it is made now and stored, so
        that other processes of the run find it.
        """
        chosen, placement = self.scenario.alignment, Placement.of(self.scenario.adapter)
        if (
            chosen.method == "none"
            or not self.algorithm.shares_subspaces
            or not placement.num_blocks
        ):
            return None
        if self.aligner is not None:
            model, examples = self.backbone(architecture), self.alignment_data()
            self._require_public(model, examples)
            with self.naming("alignment"):
                return self.aligner(model, examples, chosen, placement)
        # Models are refined jointly, so all models of the federation are needed at once.
        architecture, used = self.architecture(architecture), self.scenario.models_used
        together = list(dict.fromkeys(self.architecture(name) for name in used))
        names = [architecture] if chosen.refine is None else together
        models = [self.backbone(name) for name in names]
        pivot, examples = self.backbone(chosen.pivot), self.alignment_data()
        for model in {one.name: one for one in (pivot, *models)}.values():
            self._require_public(model, examples)
        with self.naming("alignment"):
            found = align(models, pivot, examples, chosen, placement)
        return found[names.index(architecture)]

    def alignment_data(self) -> Sequence[Example]:
        """Return the public examples on which models are aligned."""
        size = self.scenario.alignment.size
        if size is None or self.scenario.data.public == "none":
            return self.public()
        with self.naming("data.public"):
            return self.tasks.public_sample(size)

    def _require_public(self, model: Backbone, examples: Sequence[Example]) -> None:
        """Require that a model takes the public examples on which it is aligned."""
        refused = first_refusal(model, examples)
        if refused is not None:
            with self.naming("data.public"):
                where = location("public", examples, refused.index)
                raise type(refused.reason)(
                    f"{where}: {refused.reason}. All models are aligned on the same examples: name "
                    "public data that each of them takes (texts, where one takes text only), or "
                    "set alignment.method=none"
                )

    # --- tasks --------------------------------------------------------------------------------
    def task(self, spec: TaskSpec) -> Task:
        """Return the task of that name; an error names the scenario's field."""
        try:
            return self.tasks.task(spec)
        except FedMosaicError:
            with self.naming(self._field_of_task(spec.name)):
                raise

    def _field_of_task(self, name: str) -> str:
        for number, client in enumerate(self.scenario.clients):
            for place, spec in enumerate(client.tasks):
                if spec.name == name:
                    return f"clients.{number}.tasks.{place}"
        unseen = [spec.name for spec in self.scenario.unseen]
        return f"unseen.{unseen.index(name)}" if name in unseen else "tasks"

    def client_tasks(self, client: ClientSpec) -> list[Task]:
        """Return the client's tasks, in order."""
        return [self.task(spec) for spec in client.tasks]

    def unseen(self) -> list[Task]:
        """Return the tasks that no client trains on."""
        return [self.task(spec) for spec in self.scenario.unseen]

    def test_set(self, spec: TaskSpec, items: int | None) -> Sequence[Example]:
        """Return at most ``items`` test examples of a task, the same for every client and round."""
        self.task(spec)
        return self.tasks.test_set(spec, items)

    def public(self) -> Sequence[Example]:
        """Return the public examples; none where the scenario names no public set."""
        with self.naming("data.public"):
            return self.tasks.public()

    # --- shared by the clients of this process ------------------------------------------------
    def algorithm_with(self, steps: int | None) -> Algorithm:
        """Return the algorithm with another number of local steps per round (None: its own)."""
        if steps is None:
            return self.algorithm
        changed = self.settings.with_steps(steps)
        return make_algorithm(changed.algorithm, changed.scenario, changed.seed)

    def cached(self, key: str, make: Callable[[], Any]) -> Any:
        """Return the object of that key, made on first use and shared by all clients."""
        if key not in self._cached:
            self._cached[key] = make()
        return self._cached[key]

    def field_of(self, model: str) -> str:
        """Return the scenario's field that names a model."""
        users = [i for i, client in enumerate(self.scenario.clients) if client.model == model]
        return f"clients.{users[0]}.model" if users else "relevance.model"

    @contextmanager
    def naming(self, field: str = "") -> Iterator[None]:
        """Begin the message of an error inside with the scenario and its field at fault."""
        try:
            yield
        except FedMosaicError as error:
            where = ": ".join(filter(None, (self.settings.name, field)))
            raise type(error)(f"{where}: {error}") from error
