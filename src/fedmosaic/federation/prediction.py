"""Answer inputs as a client of a run would, and say which of its models answered and why."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.algorithms.common.expert_bank import ExpertBank
from fedmosaic.algorithms.common.experts import EXPERT, WithExperts
from fedmosaic.data.check import location
from fedmosaic.data.example import Example
from fedmosaic.errors import ConfigError, nearest
from fedmosaic.evaluation import ScoredTask
from fedmosaic.evaluation.difference import likeliest
from fedmosaic.evaluation.evaluator import is_answer
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.measure import evaluator_of, for_inference
from fedmosaic.federation.prompts import prompt_features
from fedmosaic.federation.stored_client import StoredClient
from fedmosaic.federation.views import base_to_compare, features_of, model_of, routes_of
from fedmosaic.models.item_check import first_refusal
from fedmosaic.relevance.remembered_prompts import remembered
from fedmosaic.relevance.routes import Nearness

OnNote = Callable[[str], None]


@dataclass(frozen=True)
class Prediction:
    """Hold an answer.

    Attributes:
        id: name of the input.
        answer: the likeliest option; without options the generated text.
        model: the view that answered: ``own`` or ``mixed``, the client's own model; ``global``,
            what it received; ``base``, the base model; ``expert NAME``, the adapter of client NAME.
        options: the options.
        scores: score of each option: its log-likelihood, for options of one token each up to a
            constant; with ``by_difference`` what the adapter changes in it.
        by_difference: whether the base model's scores are subtracted.
        nearness: the distances that led to the model; None where no model was chosen.
        expected: the right answer; None where it is not known.
        right: whether the chosen option is the right one; None for generated text, and where the
            right answer is not known.
    """

    id: str
    answer: str
    model: str
    options: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    by_difference: bool = False
    nearness: Nearness | None = None
    expected: str | None = None
    right: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the prediction as JSON values; an infinite distance is null."""
        near = self.nearness
        return {
            "id": self.id,
            "answer": self.answer,
            "model": self.model,
            "options": list(self.options) or None,
            "scores": list(self.scores) or None,
            "by_difference": self.by_difference,
            "distances": near
            and {
                "own": _finite(near.own),
                "threshold": _finite(near.threshold),
                "experts": near.experts,
                "radius": _finite(near.radius),
            },
            "expected": self.expected,
            "right": self.right,
        }


def predict(
    stored: StoredClient,
    examples: Sequence[Example],
    answered: Sequence[bool],
    *,
    view: str | None = None,
    on_note: OnNote = lambda note: None,
) -> list[Prediction]:
    """Answer inputs as a client does after the last round that is stored.

    Which model answers an input is decided by the functions that the evaluation of a run uses.

    Args:
        stored: the client.
        examples: the inputs.
        answered: for each input whether its answer is known.
        view: one of the client's views; None: the one that it uses.
        on_note: called with a sentence about what takes time.

    Raises:
        ConfigError: the client has no such view.
        DataError: training data of the client is missing, or, where its prompts decide, changed or
            without prompts.
        ModelError: a model cannot take an input; the message names it.
    """
    client = stored.local
    chosen = _chosen_view(client, view)
    routed = chosen in client.algorithm.routed_views()
    _require_taken(client, client.spec.model, examples)
    if routed:
        stored.require_same_prompts()
        _require_taken(client, client.runtime.scenario.relevance.model, examples)
        _require_prompts(client)
    _note_beginnings(stored, chosen)
    with client.turn(trains=False):
        views, near = [chosen] * len(examples), list[Nearness | None]([None] * len(examples))
        if routed:
            views, near = _routed(client, chosen, examples, on_note)
        found = _answers(client, examples, views)
    rows = zip(examples, answered, views, found, near, strict=True)
    return [_prediction(*row) for row in rows]


def _routed(
    client: LocalClient, view: str, examples: Sequence[Example], on_note: OnNote
) -> tuple[list[str], list[Nearness | None]]:
    """Return the view that answers each input, and the distances that led to it."""
    prompts = client.stream.arrived()
    with remembered(prompt_features(client.runtime), prompts) as known:
        rest = "" if known else "; their features are computed first"
        on_note(
            f"comparing with the {len(prompts)} prompts that client {client.name!r} trained on"
            + rest
        )
        features = features_of(client, examples)
        views = routes_of(client, view, features)
        return views, [*client.algorithm.router(client.context, view).nearness(features)]


@dataclass(frozen=True)
class _Given:
    """Hold what a model gave: scores of the options, or a text."""

    scores: tuple[float, ...]
    text: str
    by_difference: bool


def _answers(
    client: LocalClient, examples: Sequence[Example], views: Sequence[str]
) -> list[_Given]:
    """Return the answer of each input's view, one view after the other."""
    runtime, found = client.runtime, dict[int, _Given]()
    for view in dict.fromkeys(views):
        rows = [row for row, name in enumerate(views) if name == view]
        ranked = [row for row in rows if examples[row].options]
        free = [row for row in rows if not examples[row].options]
        tasks = [
            ScoredTask([examples[row] for row in ranked]),
            ScoredTask([examples[row] for row in free], metric="f1"),
        ]
        base = base_to_compare(client, view)
        with model_of(client, view) as model, for_inference(runtime.scenario, model):
            scores, texts = evaluator_of(runtime, client.backbone, tasks).answer(model, base)
        for row, values in zip(ranked, scores, strict=True):
            found[row] = _Given(tuple(values), "", base is not None)
        for row, text in zip(free, texts, strict=True):
            found[row] = _Given((), text, False)
    return [found[row] for row in range(len(views))]


def _prediction(
    example: Example, known: bool, view: str, given: _Given, near: Nearness | None
) -> Prediction:
    expected = example.answer if known else None
    if not example.options:
        return Prediction(example.id, given.text, view, nearness=near, expected=expected)
    answer = example.options[likeliest([given.scores])[0]]
    return Prediction(
        example.id,
        answer,
        view,
        example.options,
        given.scores,
        given.by_difference,
        near,
        expected,
        is_answer(example, answer) if known else None,
    )


def _chosen_view(client: LocalClient, view: str | None) -> str:
    """Return the view that answers.

    Raises:
        ConfigError: the client has no such view.
    """
    algorithm = client.algorithm
    if view is None:
        return algorithm.used_view()
    experts = [EXPERT + name for name in ExpertBank(client.state).names]
    valid = [*algorithm.all_views(), *experts]
    if view not in valid:
        raise ConfigError(
            f"client {client.name!r} of a run of {algorithm.name} has no view {view!r}."
            f"{nearest(view, valid)}"
        )
    return view


def _require_taken(client: LocalClient, model: str, examples: Sequence[Example]) -> None:
    """Require that a model takes all inputs."""
    refused = first_refusal(client.runtime.backbone(model), examples)
    if refused is not None:
        raise type(refused.reason)(f"{_place(examples, refused.index)}: {refused.reason}")


def _place(examples: Sequence[Example], index: int) -> str:
    return location("input", examples, index)


def _require_prompts(client: LocalClient) -> None:
    """Require that what the client trained on has prompts, which are compared with inputs."""
    plain = next((one for one in client.stream.arrived() if len(one.turns) == 1), None)
    if plain is not None:
        first = client.algorithm.views[0]
        raise ConfigError(
            f"client {client.name!r} trained on plain texts such as {plain.id!r}, which have no "
            f"prompts to compare inputs with; ask for one of its models, e.g. --view {first}"
        )


def _note_beginnings(stored: StoredClient, view: str) -> None:
    """Warn that a client is not yet what it will be."""
    client = stored.local
    if not stored.trained:
        warnings.warn(
            f"client {client.name!r} took part in none of the {stored.rounds} rounds: its adapters "
            "are untrained",
            stacklevel=2,
        )
    elif isinstance(client.algorithm, WithExperts) and not ExpertBank(client.state).names:
        warnings.warn(
            f"client {client.name!r} holds no experts after round {stored.rounds}: it gets them "
            "before an evaluation, from other clients",
            stacklevel=2,
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
