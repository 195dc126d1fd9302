"""Score a model on test examples."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.evaluation.answers import READERS, Reader, is_same_option
from fedmosaic.evaluation.difference import by_difference, likeliest
from fedmosaic.evaluation.generation import generate
from fedmosaic.evaluation.likelihood import Length, Questions
from fedmosaic.evaluation.metrics import rouge_l, token_f1
from fedmosaic.models.backbone import Backbone

Method = Literal["likelihood", "generation"]
Metric = Literal["accuracy", "f1", "rouge_l"]
BATCH_SIZE = 64
"""Most sequences in a batch where nothing else is set."""


@dataclass(frozen=True)
class Score:
    """Hold the score of a test set.

    Attributes:
        score: Mean of ``values``; 0 without examples.
        values: One value in [0, 1] for each example, in order.
        unread: Places of generated choices that named no option; their value is 0.
    """

    score: float
    values: tuple[float, ...]
    unread: tuple[int, ...] = ()

    @classmethod
    def of(cls, values: Sequence[float], unread: Sequence[int] = ()) -> Score:
        """Return the score of these values."""
        mean = math.fsum(values) / len(values) if values else 0.0
        return cls(mean, tuple(values), tuple(unread))

    @property
    def n(self) -> int:
        """Return the number of examples."""
        return len(self.values)

    @property
    def unreadable(self) -> int:
        """Return the number of generated choices that named no option."""
        return len(self.unread)


@dataclass(frozen=True)
class ScoredTask:
    """Hold the test examples of one task and how they are scored; see :func:`evaluate`."""

    examples: Sequence[Example]
    method: Method = "likelihood"
    metric: Metric = "accuracy"

    @property
    def ranked(self) -> bool:
        """Return whether the options are ranked by likelihood; else answers are generated."""
        return self.metric == "accuracy" and self.method == "likelihood"


class Evaluator:
    """Score models of one architecture on the test examples of tasks, all tasks in one pass.

    Examples are encoded and batched once for all models.

    Args:
        backbone: Encodes the examples.
        tasks: The test examples of each task.
        batch_size: Most sequences in a batch. None: 64, or with ``batch_tokens`` any number of
            prompts whose options are one token each.
        batch_tokens: Most tokens in a batch of such prompts, padding included; None: not limited.
        memory: Bytes of batches that are kept for the next model.
        max_new_tokens: As of :func:`evaluate`, like ``length`` and ``reader``.
        length: See there.
        reader: See there.
        fast: Compute once what prompts and options have in common, where the model can.

    Raises:
        DataError: accuracy is asked for, but an example has no options.
    """

    def __init__(
        self,
        backbone: Backbone,
        tasks: Sequence[ScoredTask],
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        memory: int = 0,
        max_new_tokens: int = 16,
        length: Length = "sum",
        reader: Reader = "default",
        fast: bool = True,
    ) -> None:
        for task in tasks:
            if task.metric == "accuracy":
                _check_options(task.examples)
        self.backbone = backbone
        self.tasks = tasks
        self.batch_size = batch_size or BATCH_SIZE
        self.max_new_tokens = max_new_tokens
        self.reader: Reader = reader
        ranked = [example for task in tasks if task.ranked for example in task.examples]
        size = batch_size if batch_tokens else self.batch_size
        self._questions = Questions(backbone, ranked, size, length, batch_tokens, memory, fast)
        self._open = [example for task in tasks if not task.ranked for example in task.examples]

    @torch.no_grad()
    def answer(self, model: Any, base: Any | None = None) -> tuple[list[list[float]], list[str]]:
        """Return what a model answers.

        Args:
            model: The model, which generates the open answers.
            base: A model whose scores of the options are subtracted
                (:mod:`fedmosaic.evaluation.difference`); None: none.

        Returns:
            the score of each option of each question that is ranked, see :class:`.Questions`; and
            the text of each other example. Both are in the sequence of the tasks' examples.
        """
        scores = self._questions.scores(model)
        if base is not None:
            scores = by_difference(scores, self._questions.scores(base))
        texts = generate(
            self.backbone,
            model,
            self._open,
            batch_size=self.batch_size,
            max_new_tokens=self.max_new_tokens,
        )
        return scores, texts

    def evaluate(self, model: Any, base: Any | None = None) -> list[Score]:
        """Return the score of a model on each task; model and base as of :meth:`answer`."""
        scores, texts = self.answer(model, base)
        chosen, written = iter(likeliest(scores)), iter(texts)
        return [self._score(task, chosen if task.ranked else written) for task in self.tasks]

    def _score(self, task: ScoredTask, answers: Iterator[Any]) -> Score:
        """Score a task by the next answers: indices of options, or generated texts."""
        examples = task.examples
        found = list(itertools.islice(answers, len(examples)))
        if task.ranked:
            pairs = zip(examples, found, strict=True)
            return Score.of([float(is_answer(e, e.options[i])) for e, i in pairs])
        if task.metric == "accuracy":
            return _score_choices(examples, found, self.reader)
        measure = token_f1 if task.metric == "f1" else rouge_l
        return Score.of([measure(t, e.answer) for t, e in zip(found, examples, strict=True)])


def evaluate(
    backbone: Backbone,
    model: Any,
    examples: Sequence[Example],
    *,
    method: Method = "likelihood",
    metric: Metric = "accuracy",
    batch_size: int = BATCH_SIZE,
    max_new_tokens: int = 16,
    length: Length = "sum",
    reader: Reader = "default",
) -> Score:
    """Score a model on examples.

    The score does not depend on the batch size, up to rounding in the last bits of the logits.

    Args:
        backbone: Encodes the examples.
        model: The bare model, or the model with adapters.
        examples: Test examples.
        method: For choices. ``likelihood``: the option whose tokens and end of turn have the
            largest sum of log-probabilities, given the prompt; where all options of a question are
            one token, that token alone counts. ``generation``: greedy decoding, then ``reader``.
        metric: ``accuracy`` for choices; ``f1`` or ``rouge_l`` of the generated text for open
            answers.
        batch_size: Sequences in a batch.
        max_new_tokens: Most tokens of a generated answer.
        length: ``mean`` divides the sum of an option by its number of tokens, so that long options
            are not at a disadvantage.
        reader: How a generated choice is read. ``default``: by ``read_choice``. ``release``: by the
            rule of the research code, see ``read_choice_as_release``.

    Raises:
        DataError: accuracy is asked for, but an example has no options.
    """
    evaluator = Evaluator(
        backbone,
        [ScoredTask(examples, method, metric)],
        batch_size=batch_size,
        max_new_tokens=max_new_tokens,
        length=length,
        reader=reader,
    )
    return evaluator.evaluate(model)[0]


def _check_options(examples: Sequence[Example]) -> None:
    for example in examples:
        if not example.options:
            raise DataError(
                f"example {example.id!r} has no options, which accuracy needs; use f1 or rouge_l "
                "for open answers"
            )


def _score_choices(examples: Sequence[Example], texts: Sequence[str], reader: Reader) -> Score:
    """Score generated choices; a text that names no option is wrong."""
    chosen = [
        READERS[reader](text, example.options)
        for text, example in zip(texts, examples, strict=True)
    ]
    values = [
        float(option is not None and is_answer(example, option))
        for example, option in zip(examples, chosen, strict=True)
    ]
    return Score.of(values, [place for place, option in enumerate(chosen) if option is None])


def is_answer(example: Example, option: str) -> bool:
    """Return whether an option is the right one; an answer that is not listed may be folded."""
    if example.answer in example.options:
        return option == example.answer
    return is_same_option(option, example.answer)
