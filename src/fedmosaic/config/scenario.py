"""Define a scenario: everything a run needs except its seed, algorithm and folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationInfo, field_validator, model_validator

from fedmosaic.config import client_names
from fedmosaic.config.adapter import AdapterSettings
from fedmosaic.config.alignment import AlignmentSettings
from fedmosaic.config.base import Settings, is_recorded
from fedmosaic.config.data import ClientSpec, DataSettings, TaskSpec, name_mappings
from fedmosaic.config.defences import DefenceSettings
from fedmosaic.config.deployment import DeploymentSettings
from fedmosaic.config.evaluation import EvaluationSettings
from fedmosaic.config.models import ModelSettings
from fedmosaic.config.relevance import RelevanceSettings
from fedmosaic.config.routing import RoutingSettings
from fedmosaic.config.server import ServerSettings
from fedmosaic.config.training import BudgetSettings, MemorySettings, TrainSettings
from fedmosaic.errors import ConfigError, nearest

S = TypeVar("S", bound=Settings)


class Scenario(Settings):
    """Describe a federation: its clients, their data and all settings that algorithms share."""

    title: str = ""
    """One line that names the scenario in tables and reports."""

    stream: Literal["static", "dynamic"] = "static"
    """Order of a client's training data.

    ``static``: its tasks are mixed. ``dynamic``: one task arrives after the other.
    """

    rounds: int = Field(default=20, ge=1)
    """Number of rounds."""

    participation: float = Field(default=1.0, gt=0, le=1)
    """Share of the clients that take part in a round, drawn anew each round."""

    cohort: int | None = Field(default=None, ge=1)
    """Number of clients that take part in a round, drawn anew each round.

    None: the share ``participation`` of them. Only one of the two can be set.
    """

    clients_in_memory: int = Field(default=100, ge=1)
    """Most clients that stay in the main memory of a process between their turns.

    The state of all others is in the run folder, and their tasks are read again when their turn
    comes. It changes no number. With ``evaluation.others`` all tasks stay in memory.
    """

    clients: tuple[ClientSpec, ...] = Field(min_length=1)
    """Clients of the federation: sections, or bare names of those whose sites know the rest."""

    task_kind: Literal["choice", "open"] | None = None
    """Kind of every task that does not state its own. None: as its data says."""

    replace_models: dict[str, str] = Field(default_factory=dict)
    """Models to take in place of those that the clients name, such as local copies: name to name.

    It is applied when the scenario is read; a run folder holds the models that were taken. E.g.
    ``--set 'replace_models={thkim0305/llama3.2_1B_vl: /models/1b}'``.
    """

    unseen: tuple[TaskSpec, ...] = ()
    """Tasks that no client trains on; ``fedmosaic adapt`` uses them after the run."""

    data: DataSettings = DataSettings()
    """Datasets, number of examples and the public set."""

    models: ModelSettings = ModelSettings()
    """Device, dtype and loading of base models."""

    adapter: AdapterSettings = AdapterSettings()
    """Rank and placement of the adapters."""

    alignment: AlignmentSettings = AlignmentSettings(method="none")
    """Alignment of the frozen A and B of different models."""

    train: TrainSettings = TrainSettings()
    """Local training."""

    budget: BudgetSettings = BudgetSettings()
    """Limit on what every algorithm may spend."""

    memory: MemorySettings = MemorySettings()
    """Online memory of each client."""

    relevance: RelevanceSettings = RelevanceSettings()
    """Signatures and weights of RELA."""

    routing: RoutingSettings = RoutingSettings()
    """Comparison of inputs with what a client has trained on, for views that are routed."""

    server: ServerSettings = ServerSettings()
    """Memory of the server."""

    evaluation: EvaluationSettings = EvaluationSettings()
    """Settings of the evaluation: measures, times and methods."""

    defences: DefenceSettings = DefenceSettings()
    """What the server does about updates that stand out from the others."""

    deployment: DeploymentSettings = DeploymentSettings()
    """Deadlines and limits of a federation across machines; a run on one machine has none."""

    algorithms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options of algorithms, by the algorithm's name."""

    _bare_names = field_validator("clients", "unseen", mode="before")(name_mappings)

    @model_validator(mode="after")
    def _replaced_models(self) -> Scenario:
        table, observer = self.replace_models, self.relevance.model
        if unknown := set(table) - {*self.models_used, observer}:
            name = min(unknown)
            hint = nearest(name, self.models_used)
            raise ValueError(f"replace_models: no client has the model {name!r}.{hint}")
        if table:
            self._put(
                clients=[_taking(client, "model", table) for client in self.clients],
                relevance=_taking(self.relevance, "model", table),
                replace_models={},
            )
        return self

    @model_validator(mode="after")
    def _kinds_of_tasks(self) -> Scenario:
        def filled(tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
            return tuple(
                task if task.kind else task.model_copy(update={"kind": self.task_kind})
                for task in tasks
            )

        if self.task_kind:
            clients = [c.model_copy(update={"tasks": filled(c.tasks)}) for c in self.clients]
            self._put(clients=clients, unseen=filled(self.unseen))
        return self

    def _put(self, **values: Any) -> None:
        """Set fields while the settings are still being read; afterwards they stay unchanged."""
        for name, value in values.items():
            object.__setattr__(self, name, tuple(value) if isinstance(value, list) else value)

    @field_validator("participation", mode="before")
    @classmethod
    def _a_share(cls, value: Any) -> Any:
        if isinstance(value, int | float) and value > 1:
            raise ValueError(
                f"it is a share of the clients, from 0 to 1; for a number of clients set cohort to "
                f"{value:g}"
            )
        return value

    @field_validator("budget", mode="before")
    @classmethod
    def _budget_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _cohort_fits(self) -> Scenario:
        if self.cohort is None:
            return self
        if self.participation != 1.0:
            raise ValueError(
                f"cohort = {self.cohort} and participation = {self.participation:g} both say how "
                "many clients take part in a round; set participation to 1, or cohort to null"
            )
        if self.cohort > len(self.clients):
            raise ValueError(
                f"cohort: {self.cohort} clients are to take part in a round, but the scenario has "
                f"only {len(self.clients)}"
            )
        return self

    @model_validator(mode="after")
    def _client_names(self, info: ValidationInfo) -> Scenario:
        names = [client.name for client in self.clients]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise ValueError(
                f"clients: two clients are named {twice[0]!r}; every client needs a name of its own"
            )
        if not is_recorded(info) and (alike := client_names.same_file(names)):
            raise ValueError(
                f"clients: the names {alike[0]!r} and {alike[1]!r} would name one file on disks "
                "that ignore capitals; let them differ in more"
            )
        return self

    @property
    def participants(self) -> int:
        """Return the number of clients that take part in a round; at least one."""
        return self.cohort or max(1, int(self.participation * len(self.clients) + 0.5))

    @property
    def models_used(self) -> list[str]:
        """Return the model names of the clients, each once, in order of first use.

        Clients whose sites name their models count for none.
        """
        return list(dict.fromkeys(client.model for client in self.clients if client.model))

    def require_models_and_tasks(self, origin: str) -> None:
        """Require that all is known that a simulation needs of every client.

        Raises:
            ConfigError: a client has no model or no tasks; the message begins with ``origin``.
        """
        for number, client in enumerate(self.clients):
            for field, value in (("model", client.model), ("tasks", client.tasks)):
                if not value:
                    raise ConfigError(
                        f"{origin}: clients.{number}.{field}: client {client.name!r} has none, so "
                        "it cannot be simulated. If its site names them, serve the federation with "
                        f"`fedmosaic server {origin}`; else name them here"
                    )

    def rank_of(self, name: str) -> int:
        """Return the rank of a client's adapters: its own, or ``adapter.r``."""
        return next(client.r for client in self.clients if client.name == name) or self.adapter.r

    def at_rank(self, rank: int) -> Scenario:
        """Return the scenario at another ``adapter.r``, with α scaled so that s = α/r stays.

        Clients keep their own ranks.
        """
        adapter, alpha = self.adapter, self.adapter.alpha * rank / self.adapter.r
        clients = tuple(
            client.model_copy(update={"r": client.r or adapter.r}) for client in self.clients
        )
        changed = adapter.model_copy(update={"r": rank, "alpha": alpha})
        return self.model_copy(update={"adapter": changed, "clients": clients})


def _taking(settings: S, field: str, table: Mapping[str, str]) -> S:
    """Return settings with the name in a field replaced, where the table has it."""
    name = getattr(settings, field)
    return settings.model_copy(update={field: table.get(name, name)})
