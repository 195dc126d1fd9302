"""Draw the pretraining corpus: conversations about random pictures.

The pictures come from a pool whose tower features are computed once. The questions change with the
progress of training: captions first, then attributes, counting and places, then comparisons between
images, more and more of them with options. In a few conversations any words of the world, code
words too, are to be copied (skill ``echo``), so that a model can produce words whose meaning it
does not know.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from fedmosaic.miniature.pretraining.architectures import IMAGE_TOKENS
from fedmosaic.miniature.pretraining.image_pairs import PicturePool, compare
from fedmosaic.miniature.pretraining.questions import (
    LETTERS,
    MiniatureQuestion,
    caption,
    draw_question,
)
from fedmosaic.miniature.world import words
from fedmosaic.miniature.world.scene import ARROW_DIRECTIONS, FILLS, KINDS, SHAPES, SIZES, TEXTURES
from fedmosaic.miniature.world.styles import COLORS
from fedmosaic.miniature.world.words import (
    CODE_WORDS,
    NUMBERS,
    ORDINALS,
    QUESTION_WORDS,
    with_options,
)

ANSWER_WORDS: tuple[str, ...] = tuple(
    dict.fromkeys(
        (
            *COLORS, *SHAPES, *SIZES, *FILLS, *TEXTURES, *NUMBERS, *ORDINALS, *words.YES_NO,
            *words.TRUE_FALSE, *words.COMPASS_DIRECTIONS, *words.PLACES, *ARROW_DIRECTIONS[:4],
            *KINDS, *LETTERS, *CODE_WORDS, "above", "below", "same", "different", "sign", "object",
            "before", "after", "more", "fewer", "fewest", ) ),
)  # fmt: skip
"""Words that a benchmark may use as answers; each is one token of the word-level tokenizer."""

_OTHER_WORDS = (
    "describe", "say", "word", "options", "Options", "option", "last", "both", "do", "point",
    "bars", "dice", "symbols", "texture", "fill", "ink", "shapes", "colours", "dots", "clocks",
    "arrows", "signs", "codes", "words", "picture",
)  # fmt: skip
VOCABULARY: tuple[str, ...] = tuple(dict.fromkeys((*ANSWER_WORDS, *QUESTION_WORDS, *_OTHER_WORDS)))
"""All words of the word-level tokenizer."""

_COPY_SHARE = 0.06  # share of conversations in which words are copied
_MAX_LENGTH = 46  # tokens after which no further question is added to a conversation


@dataclass(frozen=True)
class Conversation:
    """Hold one conversation.

    Attributes:
        images: indices of its pictures, which are all shown in the first turn.
        turns: (question, answer) pairs.
    """

    images: tuple[int, ...]
    turns: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class HeldOutQuestion:
    """Hold one question of the test for a pretrained model.

    Attributes:
        images: indices of its pictures.
        text: the question with image marks and options.
        answer: the answer.
        options: the options; empty if there are none.
        skill: the skill that it needs.
    """

    images: tuple[int, ...]
    text: str
    answer: str
    options: tuple[str, ...]
    skill: str


class Corpus:
    """Draw conversations without end; the same seed gives the same ones.

    Args:
        pool: pictures to talk about.
        rng: source of every draw.
    """

    def __init__(self, pool: PicturePool, rng: random.Random) -> None:
        self.pool = pool
        self.rng = rng

    def conversation(self, progress: float) -> Conversation:
        """Return the next conversation, for a progress of training from 0 to 1."""
        rng = self.rng
        roll = rng.random()
        if roll < _COPY_SHARE:
            images: tuple[int, ...] = (
                (rng.randrange(len(self.pool.pictures)),) if rng.random() < 0.5 else ()
            )
            return self._build_conversation(
                images, [self._copy_question() for _ in range(4)], progress
            )
        multi_image_share = 0.15 if progress < 0.08 else min(0.55, 0.35 + 0.4 * (progress - 0.08))
        if roll < _COPY_SHARE + (1 - _COPY_SHARE) * multi_image_share:
            images, questions = compare(rng, self.pool, listed=0.6 if progress < 0.5 else 0.25)
            return self._build_conversation(images, questions, progress)
        index = rng.randrange(len(self.pool.pictures))
        picture = self.pool[index]
        caption_share = 0.8 if progress < 0.08 else (0.35 if progress < 0.4 else 0.12)
        questions = (
            [MiniatureQuestion("caption", "describe", caption(picture), ())]
            if rng.random() < caption_share
            else []
        )
        questions += [draw_question(rng, picture) for _ in range(4)]
        return self._build_conversation((index,), questions, progress)

    def held_out_question(self) -> HeldOutQuestion:
        """Return the next question for a test; about half of the questions have options."""
        rng = self.rng
        if rng.random() < 0.04:
            images: tuple[int, ...] = (rng.randrange(len(self.pool.pictures)),)
            question = self._copy_question()
        elif rng.random() < 0.5:
            images, questions = compare(rng, self.pool)
            question = questions[0]
        else:
            images = (rng.randrange(len(self.pool.pictures)),)
            question = draw_question(rng, self.pool[images[0]])
        text = question.text
        options: tuple[str, ...] = ()
        if rng.random() < 0.6 and question.candidates:
            options = self._options(question)
            text = with_options(text, options)
        return HeldOutQuestion(
            images, _with_marks(images, text), question.answer, options, question.skill
        )

    def _build_conversation(
        self, images: tuple[int, ...], questions: Sequence[MiniatureQuestion], progress: float
    ) -> Conversation:
        """Build a conversation from as many of the questions as keep it short."""
        rng = self.rng
        options_share = 0.3 if progress < 0.08 else 0.6
        length = len(images) * IMAGE_TOKENS
        turns: list[tuple[str, str]] = []
        asked: set[tuple[str, str]] = set()
        for question in questions:
            # A question with the answer of an earlier one could be answered from the text alone.
            key = (question.skill, question.answer)
            if turns and (length > _MAX_LENGTH or key in asked):
                continue
            asked.add(key)
            text = question.text
            if question.candidates and rng.random() < options_share:
                text = with_options(text, self._options(question))
            elif rng.random() < 0.2:
                text = text.removesuffix("?")
            turns.append((text if turns else _with_marks(images, text), question.answer))
            length += (
                len(text.split())
                + text.count(",")
                + text.count("?")
                + len(question.answer.split())
                + 3
            )
        return Conversation(images, tuple(turns))

    def _options(self, question: MiniatureQuestion) -> tuple[str, ...]:
        """Return the answer among one to three other candidates; all of them if they are few."""
        others = [word for word in question.candidates if word != question.answer]
        if len(others) > 3:
            others = self.rng.sample(others, self.rng.choice((1, 2, 3, 3)))
        options = [question.answer, *others]
        self.rng.shuffle(options)
        return tuple(options)

    def _copy_question(self) -> MiniatureQuestion:
        """Ask to copy words.

        The question is ``say WORD``, ``say WORD, WORD, WORD``, or which word is at a position of
        the list of options.
        """
        rng = self.rng
        source = rng.choice((CODE_WORDS, CODE_WORDS, ANSWER_WORDS, VOCABULARY))
        chosen = rng.sample(source, rng.choice((2, 3, 4)))
        roll = rng.random()
        if roll < 0.2:
            return MiniatureQuestion("echo", f"say {chosen[0]}", chosen[0], ())
        if roll < 0.6:
            return MiniatureQuestion("echo", f"say {', '.join(chosen)}", ", ".join(chosen), ())
        k = rng.randrange(len(chosen))
        return MiniatureQuestion(
            "echo", with_options(f"which word is {ORDINALS[k]}?", tuple(chosen)), chosen[k], ()
        )


def _with_marks(images: Sequence[int], text: str) -> str:
    return "<image>" * len(images) + text


def tokenizer_texts(pool: PicturePool, seed: int, count: int = 4000) -> list[str]:
    """Return the texts that the byte-level tokenizer learns its merges from.

    They are ``count`` conversations and every word of the world 20 times.
    """
    corpus = Corpus(pool, random.Random(seed))
    texts = [
        part.replace("<image>", "")
        for k in range(count)
        for turn in corpus.conversation(k / count).turns
        for part in turn
    ]
    return texts + [f" {word}" for word in VOCABULARY for _ in range(20)]
