"""Answer multiple-choice questions by the likelihood of their options."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from fedmosaic.data.example import Example
from fedmosaic.evaluation.difference import likeliest
from fedmosaic.evaluation.plain_questions import Length, PlainQuestions, one_token_each
from fedmosaic.evaluation.shared_check import may_share, takes_trees
from fedmosaic.evaluation.shared_questions import SharedQuestions
from fedmosaic.models.backbone import Backbone

__all__ = ["Length", "Questions", "choose_by_likelihood"]

Part = tuple[Sequence[int], Any]


class Questions:
    """Hold multiple-choice questions encoded for one architecture, to ask any of its models.

    Args:
        backbone: Encodes the questions.
        examples: The questions.
        batch_size: Most sequences in a batch; None: any number of prompts, 64 of options.
        length: As of :func:`.evaluate`.
        batch_tokens: Most tokens in a batch of prompts; None: not limited.
        memory: Bytes of batches that are kept for the next model.
        fast: Compute once what prompts and options have in common, where the model can.
    """

    def __init__(
        self,
        backbone: Backbone,
        examples: Sequence[Example],
        batch_size: int | None,
        length: Length = "sum",
        batch_tokens: int | None = None,
        memory: int = 0,
        fast: bool = True,
    ) -> None:
        self.backbone = backbone
        self.examples = examples
        self.fast = fast
        self._settings = (batch_size, length, batch_tokens, memory)

    def choose(self, model: Any) -> list[int]:
        """Return the index of the likeliest option of each question."""
        return likeliest(self.scores(model))

    def scores(self, model: Any) -> list[list[float]]:
        """Return the score of each option of each question.

        It is the log-likelihood; where all options of a question are one token, up to a constant.
        """
        scores: list[list[float]] = [[] for _ in self.examples]
        parts = self._shared if self.fast and takes_trees(model) else self._plain
        for indices, questions in parts:
            for index, found in zip(indices, questions.scores(model), strict=True):
                scores[index] = found
        return scores

    @cached_property
    def _plain(self) -> list[Part]:
        """Return all questions, each sequence by itself."""
        return [self._part(PlainQuestions, range(len(self.examples)))]

    @cached_property
    def _shared(self) -> list[Part]:
        """Return the questions for which sharing pays, and the others."""
        groups: dict[bool, list[int]] = {True: [], False: []}
        others: list[int] = []
        for index, example in enumerate(self.examples):
            if may_share(self.backbone, example):
                groups[one_token_each(self.backbone, example)].append(index)
            else:
                others.append(index)
        parts = [self._part(SharedQuestions, group) for group in groups.values() if group]
        others += [index for part in parts if not part[1].saves for index in part[0]]
        return [
            *(part for part in parts if part[1].saves),
            *([self._part(PlainQuestions, sorted(others))] if others else []),
        ]

    def _part(self, kind: type[Any], indices: Sequence[int]) -> Part:
        examples = [self.examples[index] for index in indices]
        return indices, kind(self.backbone, examples, *self._settings)


def choose_by_likelihood(
    backbone: Backbone,
    model: Any,
    examples: Sequence[Example],
    batch_size: int,
    length: Length,
    fast: bool = True,
) -> list[int]:
    """Return the index of the likeliest option of each example; see :func:`.evaluate`."""
    return Questions(backbone, examples, batch_size, length, fast=fast).choose(model)
