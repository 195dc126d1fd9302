"""Split a list of options that no letters part: at commas, semicolons, slashes, "or"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fedmosaic.data.options.match import exact

_PAIRS = {"(": ")", "[": "]", "{": "}", "（": "）", "「": "」", "『": "』", "【": "】"}
_CLOSING = ")]}）」』】"
_QUOTE = "'\"“”‘’„«»「」『』`"
_QUOTED_SPLIT = re.compile(rf"(?<=[{_QUOTE}])\s*[,;|/，；、]\s*(?=[{_QUOTE}])")
_QUOTED_PIECE = re.compile(
    r"""^(?:'(.*)'|"(.*)"|“(.*)”|„(.*)[“”]|‘(.*)’|«(.*)»|「(.*)」|『(.*)』|`(.*)`)$""", re.S
)
_AND = r"(?:or|and|oder|und|ou|et|o|u|e|y|или|и|atau|veya|lub)"
_AND_UNSPACED = r"(?:或者|或是|或(?![许許然])|以及|または|もしくは)"
_AND_HANGUL = r"(?:또는|혹은)\s+"
_AND_FIRST = re.compile(rf"^(?:{_AND}\s+|{_AND_UNSPACED}\s*|{_AND_HANGUL})", re.I)
_AND_INSIDE = re.compile(rf"\s+{_AND}\s+|\s*{_AND_UNSPACED}\s*|\s+{_AND_HANGUL}", re.I)
# Kinds of separators, from the most to the least telling.
_BAR, _SEMICOLON, _LIST_COMMA = r"\|", r"[;；]", "、"
# A comma between two digits is one of "1,500" or "2,5", unless no other reading fits.
_SPACED_SLASH, _COMMA, _SLASH = r"\s/\s", r"(?<!\d)[,，]|[,，](?!\d)", r"[/／]"
_ANY_COMMA = r"[,，]"


def split_list(inside: str, bracketed: bool) -> Iterator[tuple[str, ...]]:
    """Yield the ways to read a list, the likeliest first; each has two options or more.

    Args:
        inside: the list without its brackets.
        bracketed: it stood in brackets, as programs write it. Otherwise it may end with a full
            stop and have "or" or "and" before its last option.
    """
    quoted = [exact(piece) for piece in _QUOTED_SPLIT.split(inside.strip())]
    matches = [_QUOTED_PIECE.match(piece) for piece in quoted]
    if len(quoted) > 1 and all(matches):
        contents = [
            re.sub(r"\\(['\"\\])", r"\1", next(part for part in match.groups() if part is not None))
            for match in matches
            if match is not None
        ]
        if len(set(contents)) == len(set(quoted)):
            yield tuple(exact(content) for content in contents)
        yield tuple(quoted)
    kinds = (
        (_BAR, _COMMA, _SEMICOLON, _LIST_COMMA, _SPACED_SLASH, _SLASH)
        if bracketed
        else (_BAR, _SEMICOLON, _SPACED_SLASH, _LIST_COMMA, _COMMA, _SLASH)
    )
    for kind in kinds:
        yield from _by_kind(inside, kind, bracketed)
    yield from _by_kind(inside, _ANY_COMMA, bracketed)
    if not bracketed:
        parts = _AND_INSIDE.split(inside)
        yield from _finished([re.sub(r"^(?i:either)\s+", "", parts[0]), *parts[1:]], bracketed)


def joined(pieces: Sequence[str], answer: str) -> tuple[str, ...] | None:
    """Return the pieces of a list with commas, those that together spell the answer as one."""
    wanted = _compared(answer)
    for start in range(len(pieces)):
        for end in range(start + 2, len(pieces) + 1):
            whole = ", ".join(pieces[start:end])
            if _compared(whole) == wanted:
                return (*pieces[:start], whole, *pieces[end:])
    return None


def _compared(text: str) -> str:
    return exact(text).removesuffix(".").casefold()


def _by_kind(inside: str, kind: str, bracketed: bool) -> Iterator[tuple[str, ...]]:
    for pieces in (_split_outside_brackets(inside, kind), re.split(kind, inside)):
        if len([piece for piece in pieces if piece.strip()]) > 1:
            yield from _finished(pieces, bracketed)


def _split_outside_brackets(text: str, kind: str) -> list[str]:
    """Split at separators that no pair of brackets holds; (2, 5] is a pair."""
    depth = 0
    pieces, start = [], 0
    separators = {match.start(): match.end() for match in re.finditer(kind, text)}
    for position, letter in enumerate(text):
        if letter in _PAIRS:
            depth += 1
        elif letter in _CLOSING:
            depth = max(depth - 1, 0)
        elif depth == 0 and position in separators and position >= start:
            pieces.append(text[start:position])
            start = separators[position]
    return [*pieces, text[start:]]


def _finished(pieces: Sequence[str], bracketed: bool) -> Iterator[tuple[str, ...]]:
    """Yield a list without "or" before its last piece and without its closing stop."""
    found = [exact(piece) for piece in pieces if piece.strip()]
    if len(found) < 2:
        return
    readings = [found]
    if not bracketed:
        last = _AND_FIRST.sub("", found[-1])
        if last != found[-1]:
            readings.insert(0, [*found[:-1], last])
        else:
            parts = [part for part in _AND_INSIDE.split(found[-1]) if part.strip()]
            if len(parts) == 2 and not set(parts) & set(found):
                readings.insert(0, [*found[:-1], *parts])
    for reading in readings:
        last_unstopped = reading[-1].rstrip(".。")
        stopped = bracketed or any(piece[-1] in ".。" for piece in reading[:-1])
        if last_unstopped and not stopped and last_unstopped not in reading[:-1]:
            yield (*reading[:-1], last_unstopped)
        yield tuple(reading)
