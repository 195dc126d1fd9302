"""Encode conversations as token ids, with labels on the assistant's turns."""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from torch import Tensor

from fedmosaic.data.example import Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.errors import ModelError
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.turn_text import RenderedChat

IGNORE = -100


@dataclass(frozen=True)
class Tokens:
    """Hold the token ids of a text in which each image has its number of tokens.

    Attributes:
        ids: Token ids.
        spans: First and last character of each token, in the text with expanded images.
        places: For each image the places of its placeholder in the text as rendered, and of what
            stands for it in the expanded text: (start, stop, new start, new stop).
        by_token: Other values that the model takes for each token, e.g. ``token_type_ids``.
        by_image: Other values that it takes for each image, e.g. ``image_grid_thw``.
        units: Images that are processed together, in order (:mod:`fedmosaic.models.images`).
    """

    ids: Sequence[int]
    spans: Sequence[tuple[int, int]]
    places: Sequence[tuple[int, int, int, int]] = ()
    by_token: Mapping[str, Sequence[int]] = field(default_factory=dict)
    by_image: Mapping[str, Tensor] = field(default_factory=dict)
    units: tuple[tuple[Image, ...], ...] = ()

    def expanded(self, character: int) -> int:
        """Return the place in the expanded text of a character of the rendered text."""
        gained = 0
        for _, stop, _, new_stop in self.places:
            if stop > character:
                break
            gained = new_stop - stop
        return character + gained


@dataclass(frozen=True)
class Encoded:
    """Hold one example as encoded for one model.

    Ids and labels are arrays of C integers: a run caches every example it encodes, and lists would
    take several times the memory.

    Attributes:
        input_ids: Token ids, with each image expanded to its number of tokens.
        labels: The same ids in the assistant's turns (their end-of-turn tokens included), -100
            elsewhere.
        units: Images that are processed together, in the order of their tokens.
        by_token: As of :class:`Tokens`.
        by_image: As of :class:`Tokens`.
    """

    input_ids: array[int]
    labels: array[int]
    units: tuple[tuple[Image, ...], ...] = ()
    by_token: Mapping[str, array[int]] = field(default_factory=dict)
    by_image: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def images(self) -> tuple[Image, ...]:
        """Return the images in the order of their tokens."""
        return tuple(image for unit in self.units for image in unit)


@dataclass(frozen=True)
class TokenizedChat:
    """Hold a rendered and tokenized conversation.

    Attributes:
        rendered: The text and its turns.
        tokens: The tokens of the text.
        learned: For each assistant's turn that the template writes: turn, first token, token after
            the last one, and whether that one ends the turn.
        end: Append the end-of-sequence token, which the template does not write.
    """

    rendered: RenderedChat
    tokens: Tokens
    learned: tuple[tuple[int, int, int, bool], ...]
    end: bool


class Encoder:
    """Encode conversations for one model exactly as its processor does.

    The whole conversation is rendered once and tokenized once. Labels are the tokens that overlap
    the characters of an assistant's turn, from where the model begins to write to its end-of-turn
    token. Where the template writes no such token, the end-of-sequence token is appended to the
    last answer.

    Args:
        chat: Writes the text.
        tokenizer: The model's tokenizer, which must give character offsets.
        images: Tokenizes texts with images; None for a text-only model.
        stops: The model's own end tokens, beside the tokenizer's end-of-sequence token.
    """

    def __init__(
        self,
        chat: ChatFormat,
        tokenizer: Any,
        images: Any | None = None,
        stops: Sequence[int] = (),
    ) -> None:
        self.chat = chat
        self.tokenizer = tokenizer
        self.images = images
        self.stops = sorted({tokenizer.eos_token_id, *stops})

    def encode(self, example: Example, answer: bool = True) -> Encoded:
        """Return token ids and labels of an example.

        Args:
            example: The conversation.
            answer: Encode the final answer and label every assistant turn. False: encode only the
                prompt of the final answer.

        Raises:
            ModelError: the example has images and the model takes none, or as
                :meth:`ChatFormat.locate`.
        """
        if not answer:
            tokens = self.tokenize(self.prompt(example), example)
            return self._encoded(tokens, array("i", [IGNORE]) * len(tokens.ids))
        conversation = self.read(example)
        tokens = conversation.tokens
        labels = array("i", [IGNORE]) * len(tokens.ids)
        for turn, start, stop, _ in conversation.learned:
            if example.turns[turn].learned:
                labels[start:stop] = array("i", tokens.ids[start:stop])
        return self._encoded(tokens, labels, end=conversation.end)

    def answer(self, text: str) -> list[int]:
        """Return the tokens of a text as an answer, with those that end its turn."""
        turns = (Turn("user", "?"), Turn("assistant", text))
        return [label for label in self.encode(Example("answer", turns)).labels if label != IGNORE]

    def _encoded(self, tokens: Tokens, labels: array[int], end: bool = False) -> Encoded:
        last = array("i", [self.tokenizer.eos_token_id] if end else [])
        return Encoded(
            array("i", tokens.ids) + last,
            labels + last,
            tokens.units,
            {
                name: array("i", values) + array("i", [0] * len(last))
                for name, values in tokens.by_token.items()
            },
            tokens.by_image,
        )

    def read(self, example: Example) -> TokenizedChat:
        """Render and tokenize an example and find the tokens of its assistant's turns."""
        rendered = self._locate(example.turns, example)
        assistant = [index for index, turn in enumerate(example.turns) if turn.role == "assistant"]
        regions = []
        for index in assistant:
            place = rendered.turn(index)
            if place is not None:
                start = self._begin(rendered.text, example.turns[:index], place[0])
                stop, ended = self._stop(rendered.text, place[1], index == assistant[-1])
                regions.append((index, start, stop, ended))
        last = regions[-1] if regions else None
        ended = last is not None and last[3] and last[0] == assistant[-1]
        text = rendered.text
        if not ended and last is not None and not text[last[2] :].strip():
            text = text[: last[2]]
        tokens = self.tokenize(text, example)
        learned = tuple(
            (index, *_tokens_between(tokens, start, stop), closed)
            for index, start, stop, closed in regions
        )
        return TokenizedChat(rendered, tokens, learned, not ended)

    def prompt(self, example: Example) -> str:
        """Return the text of a conversation up to where the model writes the last answer."""
        rendered = self._locate(example.turns, example)
        place = rendered.turn(len(example.turns) - 1)
        if place is None:
            return self.chat.render(example.turns[:-1], generation=True)
        return rendered.text[: self._begin(rendered.text, example.turns[:-1], place[0])]

    def _locate(self, turns: Sequence[Turn], example: Example) -> RenderedChat:
        if example.images and self.images is None:
            raise ModelError(
                f"example {example.id!r} has images, but {self.chat.name} takes text only: use a "
                "vision-language model"
            )
        return self.chat.locate(turns, example.id)

    def _begin(self, text: str, before: Sequence[Turn], start: int) -> int:
        """Return where the model begins to write the answer whose text begins at ``start``.

        This is the end of the generation prompt, if only white space lies between. Templates that
        write more before an answer (an empty block of reasoning) write it for the model. Blanks
        before the answer belong to it: most tokenizers join a blank with the word after it, and
        tokens of the prompt must be the first tokens of the whole text.
        """
        prompt = self.chat.render(before, generation=True)
        if (
            len(prompt) <= start
            and text.startswith(prompt)
            and not text[len(prompt) : start].strip()
        ):
            start = len(prompt)
        return len(text[:start].rstrip(" "))

    def _stop(self, text: str, stop: int, last: bool) -> tuple[int, bool]:
        """Return the end of an answer with its end-of-turn token, and whether there is one."""
        ends = self._any_token if last else self.end_of_turn
        found = re.compile(rf"\s*(?:{ends})+").match(text, stop) if ends else None
        return (found.end(), True) if found else (stop, False)

    @cached_property
    def end_of_turn(self) -> str:
        """Return a pattern of the tokens that end an assistant's turn; empty: there is none."""
        turns = [Turn("user", "?"), Turn("assistant", "!")]
        rendered = self.chat.locate(turns, "end of turn")
        place = rendered.turn(1)
        found = place and re.compile(rf"\s*((?:{self._any_token})+)").match(rendered.text, place[1])
        written = set(re.findall(self._any_token, found.group(1))) if found else set()
        own = {str(self.tokenizer.convert_ids_to_tokens(token)) for token in self.stops}
        return "|".join(sorted(map(re.escape, written | own)))

    @cached_property
    def _any_token(self) -> str:
        """Return a pattern of the tokens that a tokenizer never splits."""
        added = {token.content for token in self.tokenizer.added_tokens_decoder.values()}
        wanted = sorted(added | {str(self.tokenizer.eos_token)}, key=len, reverse=True)
        return "|".join(re.escape(token) for token in wanted if token.strip())

    def tokenize(self, text: str, example: Example) -> Tokens:
        """Tokenize a rendered text, with its images expanded.

        Special tokens are added as Transformers does: by a processor where the text does not begin
        with one, by a tokenizer only without a chat template.
        """
        if self.images is not None:
            bos = self.tokenizer.bos_token
            return self.images.tokenize(  # type: ignore[no-any-return]
                text, example.images, special=not (bos and text.startswith(bos))
            )
        return tokenize_text(self.tokenizer, text, special=not self.chat.has_template)


def tokenize_text(tokenizer: Any, text: str, special: bool) -> Tokens:
    """Tokenize a text without images.

    Raises:
        ModelError: the tokenizer gives no character offsets (a slow one).
    """
    if not tokenizer.is_fast:
        raise ModelError(
            f"the tokenizer of {tokenizer.name_or_path or 'this model'} "
            f"({type(tokenizer).__name__}) gives no character offsets, by which answers are found "
            "in a text: use a fast tokenizer (a tokenizer.json beside the model)"
        )
    out = tokenizer(text, add_special_tokens=special, return_offsets_mapping=True)
    return Tokens(out["input_ids"], out["offset_mapping"])


def _tokens_between(tokens: Tokens, start: int, stop: int) -> tuple[int, int]:
    """Return the tokens of the characters ``start`` to ``stop`` of the rendered text.

    A token without characters (a word's beginning that the tokenizer adds) counts where it stands.
    """
    begin, end = tokens.expanded(start), tokens.expanded(stop)
    inside = [
        index
        for index, (first, last) in enumerate(tokens.spans)
        if first < end and (last > begin or begin <= first == last)
    ]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def last_answer(labels: array[int]) -> int:
    """Return the first column of the last run of labels."""
    first = len(labels)
    while first and labels[first - 1] == IGNORE:
        first -= 1
    while first and labels[first - 1] != IGNORE:
        first -= 1
    return first
