"""Split a list of options that no letters part: at commas, semicolons, slashes, "or"."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from fedmosaic.data.options.match import exact

OPENING, CLOSING = "([{（「『【", ")]}）」』】"
_QUOTE = "'\"“”‘’„«»「」『』`"
_ESCAPED = re.compile(r"\\(['\"\\])")
_QUOTED_SPLIT = re.compile(rf"(?<=[{_QUOTE}])\s*[,;|/，；、]\s*(?=[{_QUOTE}])")
_QUOTED_PIECE = re.compile(
    r"""^(?:'(.*)'|"(.*)"|“(.*)”|„(.*)[“”]|‘(.*)’|«(.*)»|「(.*)」|『(.*)』|`(.*)`)$""", re.S
)
_AND = r"(?:or|and|oder|und|ou|et|или|и|atau|veya|lub)"
_ROMANCE_AND = r"(?:o|u|ou|y|e)"  # letters elsewhere
_AND_UNSPACED = r"(?:或者|或是|或(?![许許然])|以及|または|もしくは)"
_AND_HANGUL = r"(?:또는|혹은)\s+"
# Kinds of separators. A comma between two digits is one of "1,500" or "2,5", unless no other
# reading fits.
_BAR, _SEMICOLON, _LIST_COMMA, _SPACED_SLASH, _SLASH = r"\|", "[;；]", "、", r"\s/\s", "[/／]"
_COMMA, _ANY_COMMA = r"，|(?<!\d),|,(?!\d)", "[,，]"
_BY_PROGRAM = (_BAR, _COMMA, _SEMICOLON, _LIST_COMMA, _SPACED_SLASH, _SLASH, _ANY_COMMA)
_BY_HAND = (_BAR, _SEMICOLON, _SPACED_SLASH, _LIST_COMMA, _COMMA, _SLASH, _ANY_COMMA)
_WITH_AND = (_LIST_COMMA, _COMMA, _ANY_COMMA)


def split_list(inside: str, bracketed: bool, romance: bool = False) -> Iterator[tuple[str, ...]]:
    """Yield the ways to read a list, the likeliest first; each has two options or more.

    Args:
        inside: the list without its brackets.
        bracketed: it stood in brackets, as programs write it. Otherwise it may end with a full
            stop and have "or" or "and" before its last option.
        romance: "o", "u", "y" and "e" are words for "or" and "and".
    """
    yield from _quoted(inside)
    if bracketed:
        for kind in _BY_PROGRAM:
            yield from _split(inside, kind)
        return
    conjunction = f"(?:{_AND}|{_ROMANCE_AND})" if romance else _AND
    first = re.compile(rf"^(?:{conjunction}\s+(?!=)|{_AND_UNSPACED}\s*|{_AND_HANGUL})", re.I)
    within = re.compile(rf"\s+{conjunction}\s+|\s*{_AND_UNSPACED}\s*|\s+{_AND_HANGUL}", re.I)
    for kind in _BY_HAND:
        for pieces in _split(inside, kind):
            last = first.sub("", pieces[-1])
            parts = [part for part in within.split(last) if part.strip()]
            if last == pieces[-1] and len(parts) == 2 and kind in _WITH_AND:
                yield _without_stop((*pieces[:-1], *parts))
            yield _without_stop((*pieces[:-1], last))
    whole = re.sub(r"^(?i:either)\s+", "", inside.strip())
    parts = [exact(part) for part in within.split(whole) if part.strip()]
    if len(parts) > 1:
        yield _without_stop(tuple(parts))


def joined(pieces: Sequence[str], answer: str) -> tuple[str, ...] | None:
    """Return the pieces of a list with commas, those that together spell the answer as one.

    None if no pieces do, or only all of them, which would leave one option.
    """
    wanted = _compared(answer)
    for start in range(len(pieces)):
        whole = pieces[start]
        for end in range(start + 2, len(pieces) + 1):
            whole += f", {pieces[end - 1]}"
            if len(whole) > len(wanted) + 1:  # a final stop may be one more
                break
            if _compared(whole) == wanted and end - start < len(pieces):
                return (*pieces[:start], whole, *pieces[end:])
    return None


def _compared(text: str) -> str:
    return exact(text).removesuffix(".").casefold()


def _quoted(inside: str) -> Iterator[tuple[str, ...]]:
    """Yield a list whose options are all in quotes, without them if that keeps them apart."""
    pieces = [exact(piece) for piece in _QUOTED_SPLIT.split(inside.strip())]
    matches = [match for piece in pieces if (match := _QUOTED_PIECE.match(piece))]
    if len(matches) < 2 or len(matches) < len(pieces):
        return
    contents = [next(part for part in match.groups() if part is not None) for match in matches]
    if len(set(contents)) == len(set(pieces)):
        yield tuple(exact(_ESCAPED.sub(r"\1", content)) for content in contents)
    yield tuple(pieces)


def _split(inside: str, kind: str) -> Iterator[tuple[str, ...]]:
    """Yield the pieces between separators, first without separators inside brackets."""
    pieces_of_all = re.split(kind, inside)
    if len(pieces_of_all) == 1:
        return
    has_brackets = any(opening in inside for opening in OPENING)
    outside = _split_outside_brackets(inside, kind) if has_brackets else pieces_of_all
    for pieces in (outside, pieces_of_all):
        found = tuple(exact(piece) for piece in pieces if piece.strip())
        if len(found) > 1:
            yield found


def _split_outside_brackets(text: str, kind: str) -> list[str]:
    """Split at separators that no pair of brackets holds; (2, 5] is a pair."""
    depth = 0
    pieces, start = [], 0
    separators = {match.start(): match.end() for match in re.finditer(kind, text)}
    for position, letter in enumerate(text):
        if letter in OPENING:
            depth += 1
        elif letter in CLOSING:
            depth = max(depth - 1, 0)
        elif depth == 0 and position in separators and position >= start:
            pieces.append(text[start:position])
            start = separators[position]
    return [*pieces, text[start:]]


def _without_stop(pieces: tuple[str, ...]) -> tuple[str, ...]:
    """Return a list without the full stop behind it, unless the stop tells two options apart."""
    last = pieces[-1].rstrip(".。")
    stopped = any(piece[-1] in ".。" for piece in pieces[:-1])
    return pieces if stopped or not last or last in pieces[:-1] else (*pieces[:-1], last)
