"""Draw pseudo-tasks: questions about public examples whose answers are random words.

A pseudo-task asks one question about many public examples, each time with three options out of a
few random words. It has no right answers of its own: any feature of the examples may decide which
option counts as right (:mod:`fedmosaic.alignment.refinement.labels`). For example, red objects are
"lamp" and blue ones "seven". Traces of one pseudo-task therefore serve for any number of
labellings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedmosaic.alignment.closed_form.observe import fitted_count
from fedmosaic.alignment.correspondence.vocabulary import token_texts
from fedmosaic.config import AlignmentSettings
from fedmosaic.data.example import IMAGE_MARK, Example, Turn
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import rng

OPTIONS = 3
LONGEST = 200
"""Characters of a public text that a question quotes."""
MOST_WORDS = 256
FEWEST_WORDS = 8
HELD_OUT_TASKS, HELD_OUT_SIZE = 8, 96
"""Number of held-out pseudo-tasks, and of the examples of each."""

_PURPOSE = "refinement"  # names the draws; published runs depend on it

# The two orthonormal contrasts between three options: a choice depends on nothing else.
CONTRASTS = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.5, -1.0]]) / torch.tensor(
    [[2.0**0.5], [1.5**0.5]]
)


@dataclass(frozen=True)
class PseudoTask:
    """Hold one question about n public examples.

    Attributes:
        examples: as models see them; their answers are placeholders.
        options: int64 [n, 3], which of the pseudo-task's words each example offers, in order.
        words: number of words of the pseudo-task.
    """

    examples: Sequence[Example]
    options: Tensor
    words: int


@dataclass(frozen=True)
class PseudoTaskSet:
    """Hold the pseudo-tasks of a refinement.

    Attributes:
        fitted: A and B are computed from these.
        held_out: about other public examples, for the report only.
    """

    fitted: Sequence[PseudoTask]
    held_out: Sequence[PseudoTask]

    @classmethod
    def of(
        cls, pivot: Backbone, examples: Sequence[Example], settings: AlignmentSettings
    ) -> PseudoTaskSet:
        """Draw pseudo-tasks from the public examples and the pivot's vocabulary alone.

        Raises:
            DataError: too few public examples to hold some out; or as :func:`answerable_words`.
        """
        assert settings.refine is not None
        cut = fitted_count(len(examples), settings)
        if min(cut, len(examples) - cut) < 2:
            raise DataError(
                f"refinement needs more public examples than {len(examples)}, because some are "
                "held out; raise alignment.size or data.public_size"
            )
        refine, seed = settings.refine, settings.seed
        words = answerable_words(pivot, examples[:cut], seed)
        fitted = draw_pseudo_tasks(
            examples[:cut], words, refine.pseudo_tasks, refine.size, seed, "fit"
        )
        held_out = draw_pseudo_tasks(
            examples[cut:], words, HELD_OUT_TASKS, HELD_OUT_SIZE, seed, "held out"
        )
        return cls(fitted, held_out)


def answerable_words(pivot: Backbone, public: Sequence[Example], seed: int) -> list[str]:
    """List the pivot's most likely answer words with different first tokens; at most 256.

    The words are ranked by their mean probability over public examples with random questions. B is
    aligned only in the directions of these words. They must therefore be many, and typical of
    answers.

    Raises:
        DataError: the vocabulary has fewer than eight.
    """
    texts = [
        text.decode(errors="ignore").strip() if text else ""
        for text in token_texts(pivot.tokenizer)
    ]
    likelihood = _mean_answer(pivot, public, rng(_PURPOSE, "words", seed))[: len(texts)]
    found: dict[int, str] = {}
    for index in likelihood.argsort(descending=True, stable=True).tolist():
        word = texts[index]
        if len(word) > 1 and word.isascii() and word.isalpha() and word.islower():
            found.setdefault(pivot.answer_ids(word)[0], word)
        if len(found) == MOST_WORDS:
            break
    if len(found) < FEWEST_WORDS:
        raise DataError(
            f"{pivot.name} has {len(found)} words in its vocabulary; refinement needs at least "
            f"{FEWEST_WORDS}. Choose another pivot or align without refinement"
        )
    return list(found.values())


@torch.no_grad()
def _mean_answer(
    pivot: Backbone, public: Sequence[Example], draw: np.random.Generator, count: int = 128
) -> Tensor:
    """Average the distribution of the first answer token over public examples.

    Each example is asked a question of a few random words.
    """
    question_words = _question_words(public)
    total = torch.zeros(())
    for index in draw.permutation(len(public))[:count].tolist():
        example = public[index]
        turns = (
            Turn("user", _opening(example) + " ".join(_pick(question_words, 3, draw)) + "?"),
            Turn("assistant", ""),
        )
        batch = pivot.collate([pivot.encode(Example("usual", turns, example.images), answer=False)])
        logits = pivot.logits(pivot.model, batch)
        total = total + logits[0, -1].double().softmax(0).cpu()
    return total / min(count, len(public))


def draw_pseudo_tasks(
    public: Sequence[Example], words: Sequence[str], count: int, size: int, *seed: int | str
) -> list[PseudoTask]:
    """Draw pseudo-tasks about public examples.

    The question about an image consists of a few words out of the public questions. The question
    about a text consists of the text and a few such words.

    Args:
        public: public examples.
        words: words for answers.
        count: number of pseudo-tasks.
        size: number of examples of each.
        seed: numbers and names that identify the draw.
    """
    question_words = _question_words(public) or words
    return [
        _pseudo_task(public, question_words, words, size, rng(_PURPOSE, *seed, number))
        for number in range(count)
    ]


def _pseudo_task(
    public: Sequence[Example],
    question_words: Sequence[str],
    words: Sequence[str],
    size: int,
    draw: np.random.Generator,
) -> PseudoTask:
    question = " ".join(_pick(question_words, int(draw.integers(2, 6)), draw)) + "?"
    answers = _pick(words, min(int(draw.integers(3, 6)), len(words)), draw)
    # All examples of one pseudo-task have the same number of images.
    first = public[int(draw.integers(len(public)))]
    alike = [example for example in public if len(example.images) == len(first.images)]
    examples, options = [], []
    for number in range(size):
        example = alike[int(draw.integers(len(alike)))]
        offered = draw.permutation(len(answers))[:OPTIONS].tolist()
        text = f"{_opening(example)}{question} Options: {', '.join(answers[k] for k in offered)}"
        turns = Turn("user", text), Turn("assistant", answers[offered[0]])
        examples.append(
            Example(f"{number}", turns, example.images, tuple(answers[k] for k in offered))
        )
        options.append(offered)
    return PseudoTask(examples, torch.tensor(options), len(answers))


def _pick(words: Sequence[str], count: int, draw: np.random.Generator) -> list[str]:
    return [words[index] for index in draw.permutation(len(words))[:count].tolist()]


def _opening(example: Example) -> str:
    """Return the beginning of a question: the marks of the example's images, or its text."""
    return (
        IMAGE_MARK * len(example.images)
        if example.images
        else (example.question or example.answer)[:LONGEST]
    ) + " "


def _question_words(public: Sequence[Example]) -> list[str]:
    """List the words of the public questions, without the options that they offer."""
    questions = (
        example.question.replace(IMAGE_MARK, "").partition("Options:")[0] for example in public
    )
    return sorted({word for text in questions for word in re.findall(r"[^\W\d_]+", text)})
