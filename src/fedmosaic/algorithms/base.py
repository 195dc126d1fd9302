"""Define a federated algorithm: one class with a client half and a server half, side by side.

To add one, write a file with a subclass of :class:`Algorithm` and enter it in the table of
``algorithms/registry.py``. Nothing else needs a change.

    download(server, c) → [receive → train → upload] on client c → aggregate(server, updates)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from torch import Tensor

from fedmosaic.algorithms.message import Message
from fedmosaic.algorithms.parties import Client, Member, Server
from fedmosaic.alignment import Alignment
from fedmosaic.config import Scenario, Settings
from fedmosaic.data.example import Example
from fedmosaic.errors import ConfigError
from fedmosaic.models.backbone import Backbone
from fedmosaic.relevance.familiarity import Familiarity
from fedmosaic.relevance.routes import Router
from fedmosaic.training.loop import FitReport, LocalTraining, Loss, fit
from fedmosaic.training.optimiser import ParameterGroup

__all__ = ["Algorithm", "Client", "FitReport", "LocalTraining", "Loss", "Member", "Server", "fit"]

BASE, RECEIVED = "base", "global"
"""Views: the base model without adapters, which every client has, and what a client received."""
ROUTED, ROUTED_BASE = "routed", "routed-base"
"""Views that give an unfamiliar input to the view ``global``, or to ``base``."""
WITHIN_MODELS = "adapters between clients of one model, nothing between different models"


class Algorithm(ABC):
    """Implement a personalised federated algorithm.

    Class attributes:
        name: as given to ``--algorithm``.
        summary: one line for ``fedmosaic list algorithms``.
        paper: source for the same list.
        adapters: names of the PEFT adapters that a client's model carries; the weights of all are
            kept for the client between rounds.
        shares_subspaces: whether its models carry Co-LoRA's A and B, which the scenario's
            ``alignment`` makes comparable between architectures.
        exchange: what clients share where they share no Co-LoRA, told at the start of a run.
        computes_signatures: whether its clients compute signatures with the scenario's
            ``relevance.model``.
        replaces_weights: whether downloads overwrite trained weights. Adam's moments then start
            anew each round, except those of personal parameters (:class:`ParameterGroup`).
        views: models that a client can be evaluated as; the first is the one it would use.
        publishes_prototypes: whether its clients publish prototypes of their training prompts,
            which they describe with the scenario's ``relevance.model``.
        needs_public: whether it works on public examples and cannot run without.
        maps_predictions: whether predictions are mapped from one model's tokens to another's.
        mixed_ranks: whether clients of one architecture may have adapters of different ranks.
        oracle: whether it may see other clients' data or task families, in a simulation only.
        budgeted: whether a ``budget`` limits its steps and rounds.
        trims: whether ``defences.trim`` trims its means.
        downloads_grow: whether a later round's downloads can be larger than the second one's.
        alternates: parameters of which an update holds one a round, in turn; empty: all always.
        settings: laid over the scenario's settings, as a preset's are.
        options_of: an algorithm whose options under ``algorithms`` are defaults of this one's.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    paper: ClassVar[str]
    adapters: ClassVar[tuple[str, ...]] = ("local",)
    shares_subspaces: ClassVar[bool] = False
    exchange: ClassVar[str] = WITHIN_MODELS
    computes_signatures: ClassVar[bool] = False
    replaces_weights: ClassVar[bool] = False
    views: ClassVar[tuple[str, ...]] = ("mixed",)
    publishes_prototypes: ClassVar[bool] = False
    needs_public: ClassVar[bool] = False
    maps_predictions: ClassVar[bool] = False
    mixed_ranks: ClassVar[bool] = False
    oracle: ClassVar[bool] = False
    budgeted: ClassVar[bool] = True
    trims: ClassVar[bool] = False
    downloads_grow: ClassVar[bool] = False
    alternates: ClassVar[tuple[str, ...]] = ()
    settings: ClassVar[Mapping[str, Any]] = {}
    options_of: ClassVar[str | None] = None

    class Options(Settings):
        """Hold the settings of the algorithm, under ``algorithms.<name>``."""

        steps: int | None = None
        """Local optimiser steps per round; None: ``train.steps``."""

    def __init__(self, options: Any, scenario: Scenario, seed: int) -> None:
        if self.needs_public and scenario.data.public == "none":
            raise ConfigError(
                f"data.public: {self.name} distils on public examples and the scenario has none; "
                "name a file or a set that every client may see, e.g. data.public=miniature/public"
            )
        self.options = options
        self.scenario = scenario
        self.seed = seed

    @property
    def steps(self) -> int:
        """Return the number of local optimiser steps per round."""
        return int(self.options.steps or self.scenario.train.steps)

    def notes(self) -> list[str]:
        """Return what a user should know of these settings; it is said when a run starts."""
        return []

    # --- client half ------------------------------------------------------------------------------
    @abstractmethod
    def build(
        self, backbone: Backbone, public: Sequence[Example], alignment: Alignment | None = None
    ) -> Any:
        """Put the adapters on a fork of the backbone.

        All clients of an architecture start from the result.

        Args:
            backbone: the bare base model, which stays as it is.
            public: the public examples; empty where there are none.
            alignment: A and B of this architecture that mean what the pivot's mean; None where the
                scenario aligns nothing or the algorithm does not share subspaces.

        Returns:
            the PEFT model.
        """

    @abstractmethod
    def parameters(self, model: Any) -> Sequence[ParameterGroup]:
        """Return the parameters that local training updates."""

    @abstractmethod
    def receive(self, client: Client, download: Message) -> None:
        """Put what the server sent where it belongs.

        An empty download (first round) changes nothing.
        """

    def start_from_received(self, client: Client) -> None:
        """Replace the client's own adapter by what it received, before it learns an unrelated task.

        By default nothing happens, because where downloads overwrite trained weights every round
        begins like that. Tensors that never leave the client stay as they are.
        """
        return

    def local_training(self, client: Client) -> LocalTraining:
        """Return what :meth:`train` does; by default ``steps`` steps."""
        return LocalTraining(self.steps)

    def train(self, client: Client) -> FitReport:
        """Train as :meth:`local_training` says; if overridden, ``train.together`` is ignored."""
        plan = self.local_training(client)
        report = client.fit(plan.steps, each_step=plan.each_step)
        if plan.at_end is not None:
            plan.at_end()
        return report

    @abstractmethod
    def upload(self, client: Client) -> Message:
        """Return what leaves the client after training.

        It is also called before the first round, for the names and shapes of the tensors.
        """

    def may_publish(self, number: int) -> bool:
        """Return whether an upload in a round, from 0, may hold new prototypes of prompts."""
        return self.publishes_prototypes

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        """Yield the client's model as ``name``, one of ``views``, for evaluation."""
        yield client.model

    @classmethod
    def routed_views(cls) -> tuple[str, ...]:
        """Return the views that give each input to one of the client's models (:meth:`routes`)."""
        return (ROUTED, ROUTED_BASE) if RECEIVED in cls.views else (ROUTED_BASE,)

    @classmethod
    def all_views(cls) -> tuple[str, ...]:
        """Return all views that ``evaluation.views`` can name."""
        return (*cls.views, BASE, *cls.routed_views())

    @property
    def reads_prompts(self) -> bool:
        """Return whether clients compute features of prompts, for training or evaluation."""
        views = self.scenario.evaluation.views
        return self.publishes_prototypes or any(view in self.routed_views() for view in views)

    @classmethod
    def used_view(cls) -> str:
        """Return the view that a client uses: ``mixed``; the first without such a view."""
        return "mixed" if "mixed" in cls.all_views() else cls.views[0]

    def router(self, client: Client, view: str) -> Router:
        """Return what chooses the model of an input, inside a turn of the client.

        By default it tells inputs that resemble the client's training prompts from others.

        Args:
            client: its own training prompts decide.
            view: one of :meth:`routed_views`.
        """
        settings = self.scenario.routing
        own = Familiarity.of(client.prompt_features(), settings.quantile, settings.prompts)
        return Router(own, {}, -1.0)

    def routes(self, client: Client, view: str, prompts: Tensor) -> list[str]:
        """Return the view that answers each input.

        By default an input that resembles the client's training prompts takes the first view
        (:class:`Familiarity`), any other what the client received, or the base model.

        Args:
            client: as of :meth:`router`.
            view: as there.
            prompts: features of the inputs, [n, f].
        """
        other = BASE if view == ROUTED_BASE else RECEIVED
        chosen = self.router(client, view)(prompts)
        return [other if name is None else self.views[0] for name in chosen]

    def compares_with_base(self, client: Client, view: str) -> bool:
        """Return whether a view's options are chosen by what it changes in the base model's scores.

        See :mod:`fedmosaic.evaluation.difference`. Generated answers are those of the view.
        """
        return False

    # --- server half ------------------------------------------------------------------------------
    def take(self, server: Server, member: Member, update: Message) -> Message:
        """Take in an update as soon as it is accepted; return what ``aggregate`` will need of it.

        By default all of it. An algorithm whose server state keeps the tensors anyway puts them
        there now and returns an empty message, so that no update is held twice. Downloads of the
        round may still be made afterwards: they must not depend on what this changes.

        Args:
            server: its ``state`` keeps what is taken.
            member: the client.
            update: its tensors are to read only.
        """
        return update

    @abstractmethod
    def aggregate(self, server: Server, updates: Mapping[str, Message]) -> None:
        """Combine the round's accepted updates into what the next downloads need.

        Args:
            server: its ``state`` keeps the result.
            updates: by client, where one was accepted; each may be read from a file when asked for.
        """

    @abstractmethod
    def download(self, server: Server, member: Member) -> Message:
        """Return what the server sends this client next; an empty message where nothing is."""
