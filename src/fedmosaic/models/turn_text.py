"""Find the texts of turns in a rendered conversation, and refuse those that end it too soon."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedmosaic.data.example import IMAGE_MARK
from fedmosaic.errors import DataError

# Stands for the text of piece number k while its place is looked for: private-use characters, which
# no template treats specially.
PROBE = "\ue000{}\ue001"
PROBES = re.compile("\ue000(\\d+)\ue001")


@dataclass(frozen=True)
class Piece:
    """Hold a stretch of a turn's text between two image marks.

    Attributes:
        turn: Index of the turn.
        start: Index of its first character in the text of the turn.
        text: The characters.
    """

    turn: int
    start: int
    text: str


Message = tuple[str, tuple[Piece | None, ...]]
"""Hold the role of a message and its content in order: pieces of text, None for an image."""


@dataclass(frozen=True)
class Span:
    """State where a piece stands in a rendered text.

    Attributes:
        turn: Index of the turn.
        offset: Index of the first character in the text of the turn.
        start: Index of the first character in the rendered text.
        stop: Index after the last one there.
    """

    turn: int
    offset: int
    start: int
    stop: int


@dataclass(frozen=True)
class RenderedChat:
    """Hold a conversation as the chat template writes it.

    Attributes:
        text: The whole text, with one placeholder for each image.
        spans: Places of the turns' texts, in the order of the text.
    """

    text: str
    spans: tuple[Span, ...]

    def turn(self, index: int) -> tuple[int, int] | None:
        """Return the first and last place of a turn's text; None for a turn without text."""
        own = [span for span in self.spans if span.turn == index]
        if not own:
            return None
        return min(span.start for span in own), max(span.stop for span in own)


def pieces_of(turn: int, text: str, as_parts: bool) -> Iterator[Piece | None]:
    """Split the text of a turn at its image marks.

    Among parts, white space between an image and the beginning or end of the text separates
    nothing, and is left out.
    """
    texts = text.split(IMAGE_MARK)
    written = [index for index, part in enumerate(texts) if part.strip()]
    start = 0
    for index, part in enumerate(texts):
        if index:
            yield None
        shown, offset = part, start
        if as_parts and len(texts) > 1:
            if index and (not written or index <= written[0]):
                shown = part.lstrip()
                offset += len(part) - len(shown)
            if index < len(texts) - 1 and (not written or index >= written[-1]):
                shown = shown.rstrip()
        if shown or len(texts) == 1:
            yield Piece(turn, offset, shown)
        start += len(part) + len(IMAGE_MARK)


def probed_messages(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with a numbered probe in place of each piece of text."""
    count = 0
    probed: list[Message] = []
    for role, content in messages:
        pieces: list[Piece | None] = []
        for piece in content:
            if piece is None or not piece.text.strip():
                pieces.append(piece)
            else:
                pieces.append(replace(piece, text=PROBE.format(count)))
            count += piece is not None
        probed.append((role, tuple(pieces)))
    return probed


def match_pieces(text: str, skeleton: str, pieces: Sequence[Piece]) -> tuple[Span, ...] | None:
    """Find the pieces in a text that differs from the skeleton only at the probes, else None."""
    parts = PROBES.split(skeleton)
    literals, order = parts[::2], [int(number) for number in parts[1::2]]
    if {number for number, piece in enumerate(pieces) if piece.text.strip()} - set(order):
        return None
    spans: list[Span] = []
    at = len(literals[0])
    if not text.startswith(literals[0]):
        return None
    for place, number in enumerate(order):
        piece, following = pieces[number], literals[place + 1]
        last = place == len(order) - 1
        for part in dict.fromkeys((piece.text, piece.text.strip(), piece.text.rstrip())):
            stop = at + len(part)
            fits = text.startswith(part, at) and text.startswith(following, stop)
            if fits and (not last or stop + len(following) == len(text)):
                break
        else:
            return None
        spans.append(Span(piece.turn, piece.start + piece.text.index(part), at, stop))
        at = stop + len(following)
    return tuple(spans) if order or text == skeleton else None


def turn_marks(tokenizer: Any, written: str) -> re.Pattern[str]:
    """Return a pattern of the tokens that mark turns in a text that a chat template wrote.

    They are the special tokens in it, and those that begin and end a sequence. Thoughts, which some
    templates write for the model, and other special tokens may be part of what a model learns.
    """
    special = {
        token.content
        for token in tokenizer.added_tokens_decoder.values()
        if token.special and token.content in written and "think" not in token.content.lower()
    }
    ends = {str(token) for token in (tokenizer.bos_token, tokenizer.eos_token) if token}
    longest_first = sorted(special | ends, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def check_words(pieces: Sequence[Piece], marks: re.Pattern[str], model: str, name: str) -> None:
    """Refuse texts in the middle of which a turn would end, or another one begin.

    Args:
        pieces: The texts of a conversation.
        marks: As of :func:`turn_marks`.
        model: Name of the model, for messages.
        name: Name of the example, for messages.

    Raises:
        DataError: a text spells one of the marks.
    """
    for piece in pieces:
        if found := marks.search(piece.text):
            raise DataError(
                f"example {name!r}: turn {piece.turn} spells {found.group()}, which marks turns "
                f"for {model} and is no text: write it otherwise, or leave the example out"
            )


def image_marks(config: Any, tokenizer: Any) -> tuple[str, str]:
    """Return the tokens that the model itself, not its processor, needs before and after an image.

    Models whose positions depend on where images begin have them in their config (Qwen-VL,
    GLM-4V). A chat template that takes images writes them.
    """
    kinds = ("vision", "image")
    ids = [
        next((found for kind in kinds if (found := getattr(config, f"{kind}_{at}", None))), None)
        for at in ("start_token_id", "end_token_id")
    ]
    start, end = ("" if one is None else str(tokenizer.decode([one])) for one in ids)
    return start, end
