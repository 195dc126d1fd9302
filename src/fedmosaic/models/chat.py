"""Write conversations by a model's chat template, and find every turn's text in the result."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property, lru_cache
from typing import Any

import jinja2

from fedmosaic.data.example import IMAGE_MARK, Turn
from fedmosaic.errors import ModelError
from fedmosaic.models.clock import clock_arguments, current_time
from fedmosaic.models.turn_text import (
    PROBE,
    PROBES,
    Message,
    Piece,
    RenderedChat,
    Span,
    check_words,
    match_pieces,
    pieces_of,
    probed_messages,
    turn_marks,
)

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {{ message['content'] }}\n"
    "{% elif message['role'] == 'system' %}{{ message['content'] }}\n"
    "{% else %}ASSISTANT: {{ message['content'] }}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)
_LISTED = ("'type'", '"type"')
# The options of a question have one prompt, and all questions of one form have one probe.
_RENDERED = 1024


class ChatFormat:
    """Write conversations by the chat template of a model.

    The template of the processor counts before that of the tokenizer; ``PLAIN_TEMPLATE`` is used
    where there is none. Templates take the content of a message as text or as a list of parts.
    Which of both is found by rendering a short conversation.

    Args:
        name: Name of the model, for messages.
        tokenizer: Its tokenizer.
        processor: Its processor; None for a text-only model.
        image_marks: What the model needs before and after an image that no template writes.

    Attributes:
        image_token: Stands in the text for one image; None for a text-only model.
        time: What a template that reads the clock is shown; by default when this was made.
    """

    def __init__(
        self,
        name: str,
        tokenizer: Any,
        processor: Any | None = None,
        image_marks: tuple[str, str] = ("", ""),
    ) -> None:
        self.name = name
        own = getattr(processor, "chat_template", None)
        self._writer: Any = processor if own else tokenizer
        self._tokenizer = tokenizer
        self.has_template = bool(getattr(self._writer, "chat_template", None))
        self.image_token: str | None = getattr(processor, "image_token", None)
        self._written_image = (self.image_token or IMAGE_MARK).join(image_marks)
        self.time = current_time()
        self._warned: set[str] = set()
        self._plain_system = False
        self._rendered = lru_cache(_RENDERED)(self._render)

    def render(self, turns: Sequence[Turn], generation: bool = False) -> str:
        """Return the text of a conversation.

        Args:
            turns: The turns so far.
            generation: Also write the beginning of the next assistant's turn.

        Raises:
            ModelError: the template fails.
        """
        return self._write(self._messages(turns), generation)

    def messages(self, turns: Sequence[Turn]) -> list[dict[str, Any]]:
        """Return a conversation as the messages that ``apply_chat_template`` takes."""
        return self._as_dicts(self._messages(turns), self._as_parts)

    def locate(self, turns: Sequence[Turn], name: str) -> RenderedChat:
        """Render a conversation and find every turn's text in it.

        The template also writes the conversation with a probe in place of each text. What stands
        between the probes must stand between the texts.

        Args:
            turns: The whole conversation.
            name: Name of the example, for messages.

        Raises:
            DataError: a text spells a token that marks turns.
            ModelError: the template fails, loses a turn, or changes the text of one.
        """
        messages = self._messages(turns)
        text = self._write(messages)
        pieces = [piece for _, content in messages for piece in content if piece is not None]
        check_words(pieces, self._turn_marks, self.name, name)
        spans = match_pieces(text, self._write(probed_messages(messages)), pieces)
        if spans is None:
            spans = self._match_last(turns, text)
        if spans is None:
            raise ModelError(
                f"the chat template of {self.name} leaves out or rewrites a turn of example "
                f"{name!r}: give the model a template that writes every turn as it is "
                "(chat_template.jinja in its folder), or shorten the example to its last turn"
            )
        self._check_images(messages, text, spans, name)
        return RenderedChat(text, spans)

    def _match_last(self, turns: Sequence[Turn], text: str) -> tuple[Span, ...] | None:
        """Find the texts where the last answer changes what is written around it (reasoning)."""
        before = self._messages(turns[:-1])
        prompt = self._write(before, generation=True)
        pieces = [piece for _, content in before for piece in content if piece is not None]
        spans = match_pieces(prompt, self._write(probed_messages(before), generation=True), pieces)
        answer = turns[-1].text.strip()
        at = text.find(answer, len(prompt)) if text.startswith(prompt) else -1
        if spans is None or at < 0:
            return None
        offset = turns[-1].text.index(answer)
        return (*spans, Span(len(turns) - 1, offset, at, at + len(answer)))

    def _check_images(
        self, messages: Sequence[Message], text: str, spans: Sequence[Span], name: str
    ) -> None:
        """Refuse a text without a placeholder for each image; tell when the template moved one."""
        wanted = sum(piece is None for _, content in messages for piece in content)
        places = [match.start() for match in self._placeholders(text)]
        if len(places) != wanted:
            raise ModelError(
                f"example {name!r} has {wanted} images, but its text for {self.name} has "
                f"{len(places)} times {self.image_token}: the chat template drops images, or the "
                "text of a turn holds this token"
            )
        given = [
            -1 if piece is None else piece.turn
            for _, content in messages
            for piece in content
            if piece is None or piece.text.strip()
        ]
        written = [*((place, -1) for place in places), *((span.start, span.turn) for span in spans)]
        if wanted and given != [turn for _, turn in sorted(written)]:
            self._warn(
                f"the chat template of {self.name} writes images at other places than their marks "
                f"in the text (first in example {name!r}); the model sees them there"
            )

    def _placeholders(self, text: str) -> Iterator[re.Match[str]]:
        return (
            iter(()) if self.image_token is None else re.finditer(re.escape(self.image_token), text)
        )

    # --- messages -----------------------------------------------------------------------------
    def _messages(self, turns: Sequence[Turn]) -> list[Message]:
        """Return the turns as messages.

        Templates expect a user's turn first, after a system turn. An empty one is put before a
        conversation that begins with the assistant. A system text for which the template has no
        role stands before the first question.
        """
        messages: list[Message] = []
        preface: tuple[Piece | None, ...] = ()
        for index, turn in enumerate(turns):
            content = tuple(pieces_of(index, turn.text, self._as_parts))
            if turn.role == "system" and not self._has_system_role:
                self._warn(
                    f"the chat template of {self.name} has no system role: system texts are "
                    "written before the first question"
                )
                preface = (Piece(index, 0, turn.text.strip() + "\n\n"),)
                continue
            if turn.role == "assistant" and all(role == "system" for role, _ in messages):
                messages.append(("user", (*preface, Piece(index, 0, ""))))
                preface = ()
            if turn.role == "user":
                content, preface = (*preface, *content), ()
            messages.append((turn.role, content))
        if preface or not messages:
            messages.append(("user", (*preface, Piece(len(turns), 0, ""))))
        return messages

    @property
    def clock(self) -> dict[str, Any]:
        """Return the arguments that pin the clock of the template."""
        return clock_arguments(getattr(self._writer, "chat_template", None), self.time)

    def _write(self, messages: Sequence[Message], generation: bool = False) -> str:
        template = str(getattr(self._writer, "chat_template", None))
        state = (template, self._plain_system, self.time)
        return self._rendered(tuple(messages), generation, self._as_parts, state)

    def _render(
        self, messages: Sequence[Message], generation: bool, as_parts: bool, state: object
    ) -> str:
        """Return the text; ``state`` is what else it depends on."""
        return self._apply(messages, generation, as_parts)

    def _apply(self, messages: Sequence[Message], generation: bool, as_parts: bool) -> str:
        try:
            text = self._writer.apply_chat_template(
                self._as_dicts(messages, as_parts),
                tokenize=False,
                add_generation_prompt=generation,
                **({} if self.has_template else {"chat_template": PLAIN_TEMPLATE}),
                **self.clock,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise ModelError(
                f"the chat template of {self.name} cannot be applied: {error}"
            ) from error
        return str(text)

    def _as_dicts(self, messages: Sequence[Message], as_parts: bool) -> list[dict[str, Any]]:
        """Return messages as a chat template takes them."""
        return [
            {
                "role": role,
                "content": _parts(content)
                if as_parts and not (role == "system" and self._plain_system)
                else self._plain(content),
            }
            for role, content in messages
        ]

    def _plain(self, content: Sequence[Piece | None]) -> str:
        return "".join(self._written_image if piece is None else piece.text for piece in content)

    @cached_property
    def _turn_marks(self) -> re.Pattern[str]:
        """Return a pattern of the tokens that begin or end turns."""
        turns = (Turn("user", "?"), Turn("assistant", "!"), Turn("user", "?"))
        return turn_marks(self._tokenizer, self.render(turns))

    # --- what the template takes --------------------------------------------------------------
    @cached_property
    def _as_parts(self) -> bool:
        """Return whether the template takes the content of a message as a list of parts."""
        image = (None,) if self.image_token else ()
        probe: list[Message] = [
            ("user", (*image, Piece(0, 0, PROBE.format(0)))),
            ("assistant", (Piece(1, 0, PROBE.format(1)),)),
        ]
        failure: ModelError | None = None
        for as_parts in (True, False) if self.image_token else (False, True):
            try:
                text = self._apply(probe, False, as_parts)
            except ModelError as error:
                failure = failure or error
                continue
            whole = {"0", "1"} <= set(PROBES.findall(text))
            images = sum(1 for _ in self._placeholders(text)) == len(image)
            if whole and images and not any(mark in text for mark in _LISTED):
                return as_parts
        raise failure or ModelError(
            f"the chat template of {self.name} leaves out the text of a turn"
            f"{' or an image' * len(image)}: give the model another one (chat_template.jinja in "
            "its folder)"
        )

    @cached_property
    def _has_system_role(self) -> bool:
        """Return whether the template writes a system turn, as parts or as text."""
        probe: list[Message] = [
            (role, (Piece(index, 0, PROBE.format(index)),))
            for index, role in enumerate(("system", "user", "assistant"))
        ]
        for self._plain_system in (False, True):
            try:
                if "0" in PROBES.findall(self._write(probe)):
                    return True
            except ModelError:
                continue
        return False

    def _warn(self, message: str) -> None:
        if message[:60] not in self._warned:
            self._warned.add(message[:60])
            warnings.warn(message, stacklevel=2)


def _parts(content: Sequence[Piece | None]) -> list[dict[str, str]]:
    return [
        {"type": "image"} if piece is None else {"type": "text", "text": piece.text}
        for piece in content
    ]
