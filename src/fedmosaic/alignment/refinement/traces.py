"""Refinement of whole models: a group of them at once, each for all the others; who joins later changes nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment.closed_form.observe import fitted_count
from fedmosaic.alignment.refinement.closed_form import (
    Moments,
    agreement,
    balance,
    condition,
    conditioned,
    strengths,
)
from fedmosaic.alignment.refinement.effects import Traces, trace
from fedmosaic.alignment.refinement.group import Participant, judge, refine
from fedmosaic.alignment.refinement.pseudo_tasks import Question, answerable_words, make_questions
from fedmosaic.config import AlignmentSettings, RefineSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator

Progress = Callable[[str, int, int], None]
Refined = tuple[dict[str, Tensor], dict[str, Any]]
HELD_OUT_QUESTIONS, HELD_OUT_SIZE = 8, 96


@dataclass(frozen=True)
class Questions:
    """The questions of a refinement; those held out are asked about other public examples, and only judge."""

    fitted: Sequence[Question]
    held_out: Sequence[Question]

    @classmethod
    def of(
        cls, pivot: Backbone, examples: Sequence[Example], settings: AlignmentSettings
    ) -> Questions:
        """Drawn from the public examples and the pivot's vocabulary alone.

        Raises:
            DataError: too few public examples for some to be held out; or as :func:`answerable_words`.
        """
        cut = fitted_count(len(examples), settings)
        if min(cut, len(examples) - cut) < 2:
            raise DataError(
                f"refinement needs more public examples than {len(examples)}: some are held out"
            )
        words, chosen, seed = (
            answerable_words(pivot, examples[:cut], settings.seed),
            _chosen(settings),
            settings.seed,
        )
        fitted = make_questions(examples[:cut], words, chosen.questions, chosen.size, seed, "fit")
        held_out = make_questions(
            examples[cut:], words, HELD_OUT_QUESTIONS, HELD_OUT_SIZE, seed, "held out"
        )
        return cls(fitted, held_out)


@dataclass(frozen=True)
class Looked:
    """Models, and what they do on all questions.

    Attributes:
        layers: for each model the sites' layers. moments: of all the fitted questions.
        kept: for each model what it does on the first of them. held_out: the same of those held out.
    """

    models: Sequence[Backbone]
    layers: Sequence[Sequence[int]]
    moments: Moments
    kept: Sequence[Sequence[Traces]]
    held_out: Sequence[Sequence[Traces]]

    @classmethod
    def at(
        cls,
        questions: Questions,
        models: Sequence[Backbone],
        layers: Sequence[Sequence[int]],
        settings: AlignmentSettings,
        tell: Progress,
    ) -> Looked:
        """Ask the models everything, side by side."""
        sites = [sites_of(own, settings.modules) for own in layers]
        moments, keep = Moments(), _chosen(settings).kept
        kept: list[list[Traces]] = [[] for _ in models]
        held_out: list[list[Traces]] = [[] for _ in models]
        together = [*questions.fitted, *questions.held_out]
        for number, question in enumerate(together):
            found = [trace(model, own, question) for model, own in zip(models, sites, strict=True)]
            fitted = number < len(questions.fitted)
            if fitted:
                moments.update(found)
            if number < keep or not fitted:
                for traces, own in zip(kept if fitted else held_out, found, strict=True):
                    traces.append(own)
            tell("asking the models", number + 1, len(together))
        return cls(models, layers, moments, kept, held_out)


def refine_group(
    looked: Looked, questions: Questions, settings: AlignmentSettings, tell: Progress
) -> list[Refined]:
    """Pairs of all models, each made for every other, and their reports; the first is the pivot.

    Raises:
        DataError: a layer is narrower than the rank.
    """
    starts = looked.moments.shared(settings.rank)
    return _refined(looked, starts, [True] * len(starts), questions, settings, tell)


def refine_joiner(
    looked: Looked,
    subspaces: Mapping[str, Tensor],
    questions: Questions,
    settings: AlignmentSettings,
    tell: Progress,
) -> Refined:
    """The first model's pair, to do with a P what ``subspaces`` of the second, the pivot, do with it; they stay as they are."""
    starts = [looked.moments.joined(subspaces), dict(subspaces)]
    return _refined(looked, starts, [True, False], questions, settings, tell)[0]


def _refined(
    looked: Looked,
    starts: Sequence[dict[str, Tensor]],
    free: Sequence[bool],
    questions: Questions,
    settings: AlignmentSettings,
    tell: Progress,
) -> list[Refined]:
    chosen, seed = _chosen(settings), settings.seed

    def settle(
        pairs: Sequence[Mapping[str, Tensor]],
    ) -> list[dict[str, Tensor]]:
        """Conditioned and balanced, each site by how far the models agree there; or exactly as strong as the pair that is fixed."""
        changed = [
            conditioned(pair) if changes else dict(pair)
            for pair, changes in zip(pairs, free, strict=True)
        ]
        fixed = [pair for pair, changes in zip(changed, free, strict=True) if not changes]
        shares = (
            strengths(fixed[0], looked.kept[free.index(False)])
            if fixed
            else agreement(changed, looked.kept)
        )
        return [
            balance(pair, own, shares, exactly=bool(fixed)) if changes else pair
            for pair, own, changes in zip(changed, looked.kept, free, strict=True)
        ]

    def strangers(number: int) -> dict[str, Tensor]:
        draw = generator("refinement", "strangers", seed, number)
        return {
            key: torch.randn(value.shape, generator=draw) for key, value in starts[number].items()
        }

    random = [
        strangers(number) if changes else starts[number] for number, changes in enumerate(free)
    ]
    ends = settle(starts)
    if chosen.steps:
        models = [
            Participant(own, {key: value.clone() for key, value in pair.items()}, changes)
            for own, pair, changes in zip(looked.kept, ends, free, strict=True)
        ]
        asked = questions.fitted[: len(looked.kept[0])]
        refine(models, asked, chosen, seed, lambda done, of: tell("refining", done, of))
        ends = settle([model.subspaces for model in models])
    scores = []
    for pairs in (settle(random), ends):
        judged = [
            Participant(own, dict(pair)) for own, pair in zip(looked.held_out, pairs, strict=True)
        ]
        scores.append(
            Score(
                judge(judged, questions.held_out, chosen, seed), agreement(pairs, looked.held_out)
            )
        )
    before, after = scores
    return [
        (end, _report(looked, settings, number, before, after, condition(end)))
        for number, end in enumerate(ends)
    ]


@dataclass(frozen=True)
class Score:
    """On held-out questions: how often a P learned in model a chooses right in b, and each site's :func:`agreement`."""

    right: Mapping[tuple[int, int], float]
    agreement: Mapping[str, float]


def _report(
    looked: Looked,
    settings: AlignmentSettings,
    number: int,
    before: Score,
    after: Score,
    condition: float,
) -> dict[str, Any]:
    """The report of one model; *before* is with random A and B of equal strength."""
    own_sites, pivot_sites = (sites_of(looked.layers[n], settings.modules) for n in (number, 0))
    lines = [
        {
            "block": own.block,
            "module": own.module,
            "layer": own.layer,
            "pivot_layer": other.layer,
            "agreement_before": before.agreement[own.key],
            "agreement_after": after.agreement[own.key],
        }
        for own, other in zip(own_sites, pivot_sites, strict=True)
    ]
    others = {
        giver.name: [score.right[index, number] for score in (before, after)]
        for index, giver in enumerate(looked.models)
        if index != number
    }
    own = [score.right[number, number] for score in (before, after)]
    return {
        "sites": lines,
        "layers": sorted(looked.layers[number]),
        "refinement": {"own": own, "from": others, "condition": condition},
    }


def _chosen(settings: AlignmentSettings) -> RefineSettings:
    assert settings.refine is not None
    return settings.refine
