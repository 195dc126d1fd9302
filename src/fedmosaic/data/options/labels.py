"""Find what letters or numbers the options of a text: A. B. C., (1) (2), ①②③."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
_LATIN = "abcdefghijklmnopqrstuvwxyz"
_ALPHABETS = (
    tuple(_LATIN.upper()),
    tuple(_LATIN),
    tuple(str(number) for number in range(100)),
    _ROMAN,
    tuple(number.upper() for number in _ROMAN),
    *(
        tuple(letters)
        for letters in (
            "АБВГДЕЖЗ",
            "абвгдежз",
            "가나다라마바사아",
            "ㄱㄴㄷㄹㅁㅂㅅㅇ",
            "アイウエオカキク",
            "甲乙丙丁戊己庚辛",
            "أبجدهو",
            "אבגדהו",
            "αβγδεζ",
            "ΑΒΓΔΕΖ",
            "कखगघङच",
            "กขคงจฉ",
        )
    ),
)
_NUMBERS = 2  # place of the numbers among the alphabets
_OTHERS = "".join(letter for letters in _ALPHABETS[5:] for letter in letters)

_LABEL = (
    r"(?:(?P<latin>[A-Za-zＡ-Ｚａ-ｚ]|[0-9０-９]{1,2}|[ivx]{2,4})"
    rf"|(?P<other>[{_OTHERS}]))"
)
_TOKEN = re.compile(
    rf"""
    # At the start of a line, perhaps behind a bullet.
    (?P<line>^[^\S\n]*(?:>\s*)?(?:(?:[-•·▪◦‣+●○]|\*(?!\*))[^\S\n]*)?)?
    (?P<bold>\*\*|__)?
    (?:(?<![A-Za-z])(?:option|choice|选项|選項|選択肢|보기)[^\S\n]*)?       # "Option A:"
    (?:
      (?P<circled>[①-⑳Ⓐ-ⓩ])(?:\*\*|__)?[.．:：、)]?
      | (?P<open>[(（\[【])[^\S\n]*{_LABEL}[^\S\n]*(?P<close>[)）\]】])(?:\*\*|__)?[.．:：、]?
      | {_LABEL.replace("latin", "latin_marked").replace("other", "other_marked")}(?:\*\*|__)?
        (?: (?P<mark>[.．]) | (?P<mark_round>[)）\]]) | (?P<mark_colon>[:：]) | (?P<mark_comma>、)
          | (?P<mark_dash>[^\S\n]*[-–—](?=[^\S\n]))
          | (?P<mark_gap>[\t\u3000]) )
    )
    (?:\*\*|__)?
    """,
    re.VERBOSE | re.MULTILINE | re.IGNORECASE,
)
_BEFORE_LATIN = re.compile(r"[A-Za-z0-9_À-ɏА-я'’.@#&+$€£%/\\-]$")


@dataclass(frozen=True)
class Token:
    """Hold one letter or number that may stand before an option.

    Attributes:
        label: the letter as written.
        start: where it begins, with its bullet and bracket.
        content: where its text begins.
        style: how it is written; the letters of one list share it.
        first_of_line: whether it begins its line.
    """

    label: str
    start: int
    content: int
    style: str
    first_of_line: bool


@dataclass(frozen=True)
class LabelRun:
    """Hold letters that follow one another, A, B, C …, in one style.

    Attributes:
        tokens: the letters, at least two.
        lines: whether each begins its line.
        numbers: whether they are numbers.
    """

    tokens: tuple[Token, ...]
    lines: bool
    numbers: bool

    @property
    def style(self) -> str:
        """Return how the letters are written."""
        return self.tokens[0].style

    @property
    def start(self) -> int:
        """Return where the first letter begins."""
        return self.tokens[0].start


def label_runs(text: str) -> list[LabelRun]:
    """Return the runs of letters or numbers in a text, in the order of their starts.

    A run begins with the first letter of an alphabet, or with 0 or 1, and has two or more.
    Where lines begin with letters, these count, not the letters inside the lines.
    """
    tokens = list(_tokens(text))
    found: list[LabelRun] = []
    for style in dict.fromkeys(token.style for token in tokens):
        of_style = [token for token in tokens if token.style == style]
        for alphabet in range(len(_ALPHABETS)):
            lines = _chains([token for token in of_style if token.first_of_line], alphabet)
            everywhere = _chains(of_style, alphabet)
            found += [
                LabelRun(tuple(chain), all(t.first_of_line for t in chain), alphabet == _NUMBERS)
                for chain in _best(lines, everywhere)
            ]
    return sorted(found, key=lambda run: (run.start, -len(run.tokens)))


def in_sequence(labels: Sequence[str]) -> bool:
    """Return whether labels are the letters of one alphabet, or numbers, in their order."""
    for alphabet in range(len(_ALPHABETS)):
        places = [_place(label, alphabet) for label in labels]
        first = places[0] if places else None
        if first is not None and places == list(range(first, first + len(places))):
            return _starts(first, alphabet)
    return False


def plain_label(label: str) -> str:
    """Return a label without its form: Ａ, Ⓐ and A are one, ① and 1 are."""
    return unicodedata.normalize("NFKC", label)


def _tokens(text: str) -> Iterator[Token]:
    position = 0
    while (match := _TOKEN.search(text, position)) is not None:
        position = max(match.end(), match.start() + 1)
        latin = match["latin"] or match["latin_marked"]
        label = latin or match["other"] or match["other_marked"] or match["circled"]
        first_of_line = match["line"] is not None
        if not _may_begin(text, match, latin, first_of_line):
            position = match.start() + 1
            continue
        yield Token(label, match.start(), match.end(), _style(match), first_of_line)


def _may_begin(text: str, match: re.Match[str], latin: str | None, first_of_line: bool) -> bool:
    """Return whether what stands before and after lets this be a label, not part of a word."""
    before = text[max(match.start() - 1, 0) : match.start()]
    after = text[match.end() : match.end() + 2]
    bare = match["open"] is None and match["circled"] is None
    if match["mark_gap"] and (not first_of_line or (latin and latin[0].isdigit())):
        return False  # the columns of a table
    if not first_of_line and bare:
        if latin and _BEFORE_LATIN.search(before):
            return False
        if not latin and before and (before.isalnum() or before == "_"):
            return False
    if latin and bare and match["mark_round"] is None:
        if latin[0].isdigit() and after[:1].isdigit():
            return False  # a decimal, a time of day
        if not first_of_line and match["mark"] == "." and re.match(r"[A-Za-z]\.", after):
            return False  # initials, "A.M."
    return True


def _style(match: re.Match[str]) -> str:
    if match["circled"]:
        return "circled"
    if match["open"]:
        return "brackets " + unicodedata.normalize("NFKC", match["open"])
    marks = ("mark", "mark_round", "mark_colon", "mark_comma", "mark_dash", "mark_gap")
    return next(mark for mark in marks if match[mark])


def _place(label: str, alphabet: int) -> int | None:
    plain = plain_label(label)
    if alphabet == _NUMBERS:
        return int(plain) if plain.isdecimal() and len(plain) < 3 else None
    letters = _ALPHABETS[alphabet]
    return letters.index(plain) if plain in letters else None


def _starts(place: int, alphabet: int) -> bool:
    return place == 0 or (alphabet == _NUMBERS and place == 1)


def _chains(tokens: Sequence[Token], alphabet: int) -> list[list[Token]]:
    """Return the maximal runs of successors; what does not follow is passed over."""
    chains: list[list[Token]] = []
    last = -2
    for token in tokens:
        place = _place(token.label, alphabet)
        if place is None:
            continue
        if place == last + 1 and chains:
            chains[-1].append(token)
            last = place
        elif _starts(place, alphabet):
            chains.append([token])
            last = place
    return [chain for chain in chains if len(chain) > 1]


def _best(lines: list[list[Token]], everywhere: list[list[Token]]) -> list[list[Token]]:
    """Choose between runs that share letters: letters at line starts, unless others add to them."""
    chosen = list(lines)
    for chain in everywhere:
        starts = {token.start for token in chain}
        rivals = [line for line in lines if starts & {token.start for token in line}]
        if all({token.start for token in line} < starts for line in rivals):
            chosen = [line for line in chosen if line not in rivals] + [chain]
    return chosen
