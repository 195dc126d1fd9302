"""Refinement of whole models: a group of them at once, each for all the others; who joins later changes nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fedmosaic.alignment.observe import fitted_count
from fedmosaic.alignment.refinement.effects import Traces, trace
from fedmosaic.alignment.refinement.pseudo import Question, answerable_words, make_questions
from fedmosaic.alignment.refinement.refine import Participant, judge, refine
from fedmosaic.alignment.refinement.start import balance, condition, conditioned, group_start, joiner_start
from fedmosaic.alignment.sites import Site, sites_of
from fedmosaic.config import AlignmentSettings, RefineSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone

Progress = Callable[[str, int, int], None]
Refined = tuple[dict[str, Tensor], dict[str, Any]]
HELD_OUT_QUESTIONS = 8


@dataclass(frozen=True)
class Questions:
    """The questions of a refinement; those held out are asked about other public examples, and only judge."""

    fitted: Sequence[Question]
    held_out: Sequence[Question]

    @classmethod
    def of(cls, pivot: Backbone, examples: Sequence[Example], settings: AlignmentSettings) -> Questions:
        """Drawn from the public examples and the pivot's vocabulary alone.

        Raises:
            DataError: too few public examples for some to be held out; or as :func:`answerable_words`.
        """
        cut = fitted_count(len(examples), settings)
        if min(cut, len(examples) - cut) < 2:
            raise DataError(f"refinement needs more public examples than {len(examples)}: some are held out")
        words, chosen, seed = answerable_words(pivot, examples[:cut], settings.seed), _chosen(settings), settings.seed
        fitted = make_questions(examples[:cut], words, chosen.questions, chosen.size, seed, "fit")
        held_out = make_questions(examples[cut:], words, HELD_OUT_QUESTIONS, 2 * chosen.size, seed, "held out")
        return cls(fitted, held_out)


@dataclass(frozen=True)
class Looked:
    """A model and what it does on all questions."""

    model: Backbone
    sites: Sequence[Site]
    fitted: Sequence[Traces]
    held_out: Sequence[Traces]

    @classmethod
    def at(
        cls, questions: Questions, model: Backbone, layers: Sequence[int], settings: AlignmentSettings, tell: Progress
    ) -> Looked:
        """Ask the model all of them."""
        sites = sites_of(layers, settings.modules)
        together = [*questions.fitted, *questions.held_out]
        found = []
        for number, question in enumerate(together):
            found.append(trace(model, sites, question))
            tell(f"asking {model.name}", number + 1, len(together))
        return cls(model, sites, found[: len(questions.fitted)], found[len(questions.fitted) :])


def refine_group(
    group: Sequence[Looked], questions: Questions, settings: AlignmentSettings, tell: Progress
) -> list[Refined]:
    """Pairs of all models of the group, each refined for every other, and their reports; the first is the pivot.

    Raises:
        DataError: a layer is narrower than the rank.
    """
    starts = group_start([one.fitted for one in group], settings.rank)
    starts = [balance(start, one.fitted, each=True) for start, one in zip(starts, group, strict=True)]
    return _refined(group, starts, [True] * len(group), questions, settings, tell)


def refine_joiner(
    joiner: Looked,
    pivot: Looked,
    subspaces: Mapping[str, Tensor],
    questions: Questions,
    settings: AlignmentSettings,
    tell: Progress,
) -> Refined:
    """A model's pair, to do with a P what the pivot's pair, which stays as it is, does with it."""
    start = balance(joiner_start(joiner.fitted, pivot.fitted, subspaces), joiner.fitted, each=True)
    pairs = [dict(subspaces), start]
    return _refined([pivot, joiner], pairs, [False, True], questions, settings, tell)[1]


def _refined(
    group: Sequence[Looked],
    starts: Sequence[Mapping[str, Tensor]],
    trained: Sequence[bool],
    questions: Questions,
    settings: AlignmentSettings,
    tell: Progress,
) -> list[Refined]:
    chosen, seed = _chosen(settings), settings.seed
    models = [
        Participant(one.fitted, {key: value.clone() for key, value in start.items()}, free)
        for one, start, free in zip(group, starts, trained, strict=True)
    ]
    refine(models, questions.fitted, chosen, seed, lambda done, of: tell("refining", done, of))
    ends = [
        balance(conditioned(model.subspaces), one.fitted, each=False) if free else model.subspaces
        for model, one, free in zip(models, group, trained, strict=True)
    ]
    before, after = (
        judge(
            [Participant(one.held_out, dict(s)) for one, s in zip(group, pairs, strict=True)],
            questions.held_out,
            chosen,
            seed,
        )
        for pairs in (starts, ends)
    )
    return [(end, _report(group, number, before, after, condition(end))) for number, end in enumerate(ends)]


def _report(
    group: Sequence[Looked],
    number: int,
    before: Mapping[tuple[int, int], float],
    after: Mapping[tuple[int, int], float],
    condition: float,
) -> dict[str, Any]:
    """The report; in ``refinement`` how often the model chooses right on held-out pseudo-tasks with its own P and the others'."""
    one, pivot = group[number], group[0]
    lines = [
        {"block": own.block, "module": own.module, "layer": own.layer, "pivot_layer": other.layer}
        for own, other in zip(one.sites, pivot.sites, strict=True)
    ]
    others = {
        giver.model.name: [score[index, number] for score in (before, after)]
        for index, giver in enumerate(group)
        if index != number
    }
    own = [score[number, number] for score in (before, after)]
    layers = sorted({site.layer for site in one.sites})
    return {"sites": lines, "layers": layers, "refinement": {"own": own, "from": others, "condition": condition}}


def _chosen(settings: AlignmentSettings) -> RefineSettings:
    assert settings.refine is not None
    return settings.refine
