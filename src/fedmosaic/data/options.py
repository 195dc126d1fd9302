"""Find the options of a multiple-choice question in its prompt."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

_BRACKETED = re.compile(r"\b(?:choice list|choices|options|choice)\s*:\s*\[", re.IGNORECASE)
_INLINE = re.compile(r"\b(?:choices|options)\s*:[ \t]*(?P<list>[^\n\[]+)", re.IGNORECASE)
_LETTER = r"\(?([A-Z])[.):]\s*"
_LETTERED_LINE = re.compile(rf"^\s*{_LETTER}(\S.*?)\s*$", re.MULTILINE)
_LETTERED_PIECE = re.compile(rf"^{_LETTER}(.*)$", re.DOTALL)


def match_option(answer: str, options: Sequence[str]) -> int | None:
    """Return the index of the option that equals the answer; None if there is none.

    Case, extra spaces and a final full stop are ignored.
    """
    wanted = _plain(answer)
    return next((index for index, option in enumerate(options) if _plain(option) == wanted), None)


def options_in_prompt(prompt: str, answer: str) -> tuple[str, ...]:
    r"""Return the options that a prompt lists, spelled as the answer is; empty if it lists none.

    These forms are understood, tried in this order: lists in brackets, lettered lines, and lists
    after a colon. Of several lists of one form the last is taken::

        Choice list:[red, dark red]      Choice list:["a, b", "c"]      Choice list:[A: one| B: two]
        A. one\nB. two                   (A) one\n(B) two
        Options: red, dark red

    Lettered options become their letters if the answer is a letter, and their texts if the answer
    is a text. If an option contains commas, the answer shows it: consecutive pieces that together
    spell the answer are joined to one option. A list that does not contain the answer is ignored.
    """
    for forms in (_bracketed(prompt), _lettered_lines(prompt), _inline(prompt)):
        for pieces in forms:
            joined = _join_pieces(pieces, answer)
            if len(joined) > 1 and match_option(answer, joined) is not None:
                return joined
    return ()


def _bracketed(prompt: str) -> list[list[str]]:
    starts = [match.end() for match in _BRACKETED.finditer(prompt)]
    if not starts:
        return []
    inside = _until_closing(prompt, starts[-1])
    return [] if inside is None else _forms(_split(inside))


def _until_closing(text: str, start: int) -> str | None:
    """Return the text from ``start`` to the matching closing bracket; None if it is missing."""
    depth = 1
    for position in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[position], 0)
        if depth == 0:
            return text[start:position]
    return None


def _inline(prompt: str) -> list[list[str]]:
    lines = [match["list"] for match in _INLINE.finditer(prompt)]
    return _forms(_split(lines[-1].strip().removesuffix("."))) if lines else []


def _lettered_lines(prompt: str) -> list[list[str]]:
    found = _LETTERED_LINE.findall(prompt)
    starts = [index for index, (letter, _) in enumerate(found) if letter == "A"]
    if not starts:
        return []
    run: list[tuple[str, str]] = []
    for letter, text in found[starts[-1] :]:
        if letter != chr(ord("A") + len(run)):
            break
        run.append((letter, text))
    return _forms([f"{letter}. {text}" for letter, text in run])


def _split(inside: str) -> list[str]:
    if inside.lstrip()[:1] in ("'", '"'):
        try:
            quoted = ast.literal_eval(f"[{inside}]")
        except (ValueError, SyntaxError):
            quoted = None
        if quoted and all(isinstance(piece, str) for piece in quoted):
            return [piece.strip() for piece in quoted]
    separator = "|" if "|" in inside else ","
    return [piece.strip() for piece in inside.split(separator) if piece.strip()]


def _forms(pieces: list[str]) -> list[list[str]]:
    """Return the options as written and, if lettered A, B, C ..., also as letters and as texts."""
    lettered = [_LETTERED_PIECE.match(piece) for piece in pieces]
    forms = [pieces]
    matches = [match for match in lettered if match is not None]
    if len(matches) == len(pieces) and [m[1] for m in matches] == [
        chr(ord("A") + i) for i in range(len(matches))
    ]:
        forms += [[match[1] for match in matches], [match[2].strip() for match in matches]]
    return forms


def _join_pieces(pieces: list[str], answer: str) -> tuple[str, ...]:
    """Return the pieces without repeats; pieces that together spell the answer become one."""
    if match_option(answer, pieces) is None:
        for start in range(len(pieces)):
            for end in range(start + 2, len(pieces) + 1):
                whole = ", ".join(pieces[start:end])
                if _plain(whole) == _plain(answer):
                    pieces = [*pieces[:start], whole, *pieces[end:]]
                    return tuple(dict.fromkeys(pieces))
    return tuple(dict.fromkeys(pieces))


def _plain(text: str) -> str:
    return " ".join(text.split()).removesuffix(".").casefold()
