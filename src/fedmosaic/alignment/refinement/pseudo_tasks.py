"""Pseudo-tasks: made-up questions about public examples with made-up answers, of which any may be called right.

A *question* is asked about many public examples in the same words, each time with three options out of a handful of random words. A
*task* says for every example which of its options is right, by some feature of it: that red things are "lamp" and blue ones "seven". So
one question, looked at once, serves for any number of tasks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedmosaic.alignment.correspondence.vocabulary import token_texts
from fedmosaic.data.example import IMAGE_MARK, Example, Turn
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import rng

OPTIONS = 3
LONGEST = 200
"""Characters of a public text that a question quotes."""
MOST_WORDS = 256
FEWEST_WORDS = 8

# The two contrasts between three options, orthonormal: all that a choice between them depends on.
CONTRASTS = torch.tensor([[1.0, -1.0, 0.0], [0.5, 0.5, -1.0]]) / torch.tensor(
    [[2.0**0.5], [1.5**0.5]]
)


@dataclass(frozen=True)
class Question:
    """The same question about n public examples.

    Attributes:
        examples: as the model sees them; their answers are placeholders.
        options: int64 [n, 3], which of the question's words each example offers, in order. words: how many the question has.
    """

    examples: Sequence[Example]
    options: Tensor
    words: int


@dataclass(frozen=True)
class Task:
    """What is right, for those examples of a question that offer it.

    Attributes:
        support, query: indices of examples to learn from and to be judged by.
        answers: int64 [n], the place of the right option among each example's three; of any value elsewhere.
    """

    support: Tensor
    query: Tensor
    answers: Tensor

    @property
    def targets(self) -> Tensor:
        """What the contrasts of the support's options should be, [support, 2]: those of one-hot answers, less their mean."""
        return (
            torch.nn.functional.one_hot(self.answers[self.support], OPTIONS).sub(1 / OPTIONS)
            @ CONTRASTS.t()
        )


def answerable_words(pivot: Backbone, public: Sequence[Example], seed: int) -> list[str]:
    """The words that the pivot finds likeliest as answers, whatever is asked, and tells apart by their first tokens; at most 256.

    B is only aligned in the directions of the words that were asked for: they must be many, and such as answers are made of.

    Raises:
        DataError: the vocabulary has fewer than eight.
    """
    texts = [
        text.decode(errors="ignore").strip() if text else ""
        for text in token_texts(pivot.tokenizer)
    ]
    usual = _usual_answers(pivot, public, rng("refinement", "words", seed))[: len(texts)]
    found: dict[int, str] = {}
    for index in usual.argsort(descending=True, stable=True).tolist():
        word = texts[index]
        if len(word) > 1 and word.isascii() and word.isalpha() and word.islower():
            found.setdefault(pivot.answer_ids(word)[0], word)
        if len(found) == MOST_WORDS:
            break
    if len(found) < FEWEST_WORDS:
        raise DataError(
            f"{pivot.name} has {len(found)} words in its vocabulary; {FEWEST_WORDS} are needed to refine"
        )
    return list(found.values())


@torch.no_grad()
def _usual_answers(
    pivot: Backbone, public: Sequence[Example], draw: np.random.Generator, count: int = 128
) -> Tensor:
    """Mean distribution of the first answer token over public pictures or texts with questions of a few random words."""
    asking = _asking(public)
    total = torch.zeros(())
    for index in draw.permutation(len(public))[:count].tolist():
        shown = public[index]
        turns = (
            Turn("user", _about(shown) + " ".join(_pick(asking, 3, draw)) + "?"),
            Turn("assistant", ""),
        )
        batch = pivot.collate([pivot.encode(Example("usual", turns, shown.images), answer=False)])
        output = pivot.model(
            inputs_embeds=pivot.embed(batch),
            attention_mask=batch.attention_mask,
            logits_to_keep=1,
            use_cache=False,
        )
        total = total + output.logits[0, -1].double().softmax(0).cpu()
    return total / min(count, len(public))


def make_questions(
    public: Sequence[Example], words: Sequence[str], count: int, size: int, *seed: int | str
) -> list[Question]:
    """``count`` questions about ``size`` examples each, drawn from the public ones.

    About pictures the question is a few words out of public questions; about a text it is the text and a few such words.

    Args:
        words: that answers are made of.
    """
    asking = _asking(public) or words
    return [
        _question(public, asking, words, size, rng("refinement", *seed, number))
        for number in range(count)
    ]


def _question(
    public: Sequence[Example],
    asking: Sequence[str],
    words: Sequence[str],
    size: int,
    draw: np.random.Generator,
) -> Question:
    asked = " ".join(_pick(asking, int(draw.integers(2, 6)), draw)) + "?"
    answers = _pick(words, min(int(draw.integers(3, 6)), len(words)), draw)
    # Questions about one picture and about several: those of one question all show as many.
    first = public[int(draw.integers(len(public)))]
    alike = [example for example in public if len(example.images) == len(first.images)]
    examples, options = [], []
    for number in range(size):
        shown = alike[int(draw.integers(len(alike)))]
        offered = draw.permutation(len(answers))[:OPTIONS].tolist()
        text = f"{_about(shown)}{asked} Options: {', '.join(answers[k] for k in offered)}"
        turns = Turn("user", text), Turn("assistant", answers[offered[0]])
        examples.append(
            Example(f"{number}", turns, shown.images, tuple(answers[k] for k in offered))
        )
        options.append(offered)
    return Question(examples, torch.tensor(options), len(answers))


def _pick(words: Sequence[str], count: int, draw: np.random.Generator) -> list[str]:
    return [words[index] for index in draw.permutation(len(words))[:count].tolist()]


def _about(example: Example) -> str:
    """What a question about a public example begins with: its pictures, or its text."""
    return (
        IMAGE_MARK * len(example.images)
        if example.images
        else (example.question or example.answer)[:LONGEST]
    ) + " "


def _asking(public: Sequence[Example]) -> list[str]:
    """The words of the public questions, without the answers they offer."""
    asked = (
        example.question.replace(IMAGE_MARK, "").partition("Options:")[0] for example in public
    )
    return sorted({word for question in asked for word in re.findall(r"[^\W\d_]+", question)})


def make_task(
    question: Question, features: Sequence[Tensor], size: int, draw: np.random.Generator
) -> Task | None:
    """A task by a random feature: which of ``question.words`` clusters an example falls into, the words in random order.

    Args:
        features: matrices [n, m] of which one is drawn, columns by falling importance (see :func:`principal_features`).
        size: examples to learn from, at most.

    Returns:
        None if too few examples offer their answer.
    """
    chosen = features[int(draw.integers(len(features)))]
    importance = chosen.square().sum(0).pow(0.25).double().numpy()
    importance = importance / importance.sum()
    for _ in range(10):
        columns = draw.choice(len(importance), size=int(draw.integers(1, 4)), p=importance)
        clusters = _clusters(
            chosen[:, columns] / chosen[:, columns].norm(dim=0).clamp_min(1e-9),
            question.words,
            draw,
        )
        if int(torch.bincount(clusters, minlength=question.words).min()) >= 0.08 * len(clusters):
            break
    word = torch.from_numpy(draw.permutation(question.words))[clusters]
    offered = question.options == word[:, None]
    usable = offered.any(1).nonzero()[:, 0]
    if len(usable) < 3 * OPTIONS:
        return None
    usable = usable[torch.from_numpy(draw.permutation(len(usable)))]
    cut = min(size, len(usable) * 2 // 3)
    return Task(usable[:cut], usable[cut:], offered.int().argmax(1))


def principal_features(rows: Tensor, count: int = 24) -> Tensor:
    """The leading principal components of ``rows`` [n, d], centred: [n, at most count], falling in size."""
    u, s, _ = torch.linalg.svd(rows.float() - rows.float().mean(0), full_matrices=False)
    components: Tensor = (u * s)[:, :count]
    return components


def _clusters(points: Tensor, count: int, draw: np.random.Generator) -> Tensor:
    """A few steps of k-means from random points; int64 [n]."""
    centres = points[torch.from_numpy(draw.permutation(len(points))[:count])]
    for _ in range(3):
        nearest: Tensor = torch.cdist(points, centres).argmin(1)
        parts = [points[nearest == k] for k in range(count)]
        centres = torch.stack([p.mean(0) if len(p) else centres[k] for k, p in enumerate(parts)])
    nearest = torch.cdist(points, centres).argmin(1)
    return nearest
