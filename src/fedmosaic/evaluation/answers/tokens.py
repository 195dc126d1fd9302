"""Split answers and options into tokens: words with their marks, whole numbers, signs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import regex

from fedmosaic.evaluation.answers.numerals import Quantity, ascii_digits, number_at
from fedmosaic.evaluation.scripts import UNSPACED


class Kind(Enum):
    """Tell words, numbers, letters of scripts without spaces, signs and punctuation apart."""

    WORD = "word"
    NUMBER = "number"
    UNSPACED = "unspaced"
    SIGN = "sign"
    MARK = "mark"


@dataclass(frozen=True)
class TextToken:
    """Hold one token of a text.

    Attributes:
        text: As written.
        kind: What it is.
        start: Where it starts in the text.
        end: Where it ends.
        quantity: The value of a number.
    """

    text: str
    kind: Kind
    start: int
    end: int
    quantity: Quantity | None = None

    @cached_property
    def folded(self) -> str:
        """Return the token without capitals, with one form of ё and of Arabic alif."""
        return fold(self.text)


_FOLDED = str.maketrans({"ё": "е", "أ": "ا", "إ": "ا", "آ": "ا", "ی": "ي", "ک": "ك", "ى": "ي"})
_ELIDED = r"(?:[ldjcnmst]|qu|jusqu|lorsqu|puisqu|dell|all|nell|sull|dall|un)'(?=\p{L})"
_OTHER = rf"(?:(?!{UNSPACED})(?!\p{{Hangul}})[\p{{L}}\p{{M}}\p{{N}}_])"
_TOKEN = regex.compile(
    # A point or an interval: (2, 5], (0, 1).
    r"(?P<tuple>[(\[]\s*[-+]?[\d.∞]+\s*(?:[,;]\s*[-+]?[\d.∞]+\s*)+[)\]])"
    rf"|(?P<elided>(?i:{_ELIDED}))"
    r"|(?P<dotted>(?:\p{L}\.){2,}|\p{L}(?:\.\p{L})+)"  # U.S.A., e.g.
    r"|(?P<prime>(?<![\p{L}\p{M}\p{N}'])\p{L}'+(?![\p{L}\p{N}]))"  # f', g''
    rf"|(?P<word>{_OTHER}(?:{_OTHER}|\^[\w+-]|'+(?={_OTHER}))*(?:\^[\w+-]+)?(?:\+\+?(?!\w)|\#)?)"
    r"|(?P<hangul>\p{Hangul}+)"
    rf"|(?P<unspaced>(?={UNSPACED})\X)"
    r"|(?P<sign>[❌✗✘✖🚫✓✔✅]|(?:!=|"
    r"[<>=≤≥≠+*/&|~^%$€£°±√×÷#@\\→⇒∧∨]|(?<=\w)-{1,2}(?=\w)|(?<=[\d)] )-(?= [\d(]))+)"
    r"|(?P<mark>[^\s])",
    regex.V1,
)
_BLOB = regex.compile(r"[-+±√]*[\d\p{L}\p{M}.,:/^'!%–_-]*[\d\p{L}\p{M}^'!%]")
_WORD_BEFORE = regex.compile(r"[\p{L}\p{M}\p{N}_^]\Z")


def fold(text: str) -> str:
    """Return a word without capitals, and with one form of letters that are written in two."""
    return text.casefold().replace("i\u0307", "i").translate(_FOLDED)


def tokenise(text: str) -> list[TextToken]:
    """Split a text, in the form of :func:`clean.one_form`, into tokens without spaces."""
    text = ascii_digits(text)
    tokens: list[TextToken] = []
    place = 0
    while place < len(text):
        if text[place].isspace():
            if text[place] == "\n":
                tokens.append(TextToken("\n", Kind.MARK, place, place + 1))
            place += 1
            continue
        token = _number(text, place) or _other(text, place)
        tokens.append(token)
        place = token.end
    return tokens


def _number(text: str, place: int) -> TextToken | None:
    """Return the number at a place, or what looks like one and is none: 3rd, 2-3, 5^2, √2."""
    inside = _WORD_BEFORE.search(text[max(0, place - 1) : place])
    if text[place] in "([" or (inside and not text[place].isnumeric()):
        return None
    if inside and regex.match(r"[\p{Latin}\d_^]", text[place - 1]):
        return None
    if found := number_at(text, place):
        return TextToken(text[place : found[1]], Kind.NUMBER, place, found[1], found[0])
    if regex.match(r"[-+±√–]{0,2}\.?\d", text[place:]):
        blob = _BLOB.match(text, place)
        if blob:
            return TextToken(blob[0], Kind.WORD, place, blob.end())
    return None


def _other(text: str, place: int) -> TextToken:
    match = _TOKEN.match(text, place)
    assert match is not None, "every character but a space is a token"
    kinds = {"unspaced": Kind.UNSPACED, "sign": Kind.SIGN, "mark": Kind.MARK}
    kind = kinds.get(match.lastgroup or "", Kind.WORD)
    written = regex.sub(r"\s", "", match[0]) if match["tuple"] else match[0]
    return TextToken(written, kind, match.start(), match.end())


def content(tokens: Sequence[TextToken]) -> list[TextToken]:
    """Return an option's tokens without articles in front, hyphens, and punctuation at its ends."""
    found = [
        token
        for token, following in zip(tokens, [*tokens[1:], None], strict=False)
        if token.text not in "-\n'\"()[]{}«»"
        or _is_of_a_call(tokens, token)
        or (token.text == "-" and following and following.kind is Kind.NUMBER)
    ] or list(tokens)
    while len(found) > 1 and _is_punctuation(found[-1]) and found[-1].text != ")":
        found = found[:-1]
    while len(found) > 1 and _is_punctuation(found[0]) and found[0].text != "-":
        found = found[1:]
    while len(found) > 1 and _is_article(found[0], found[1]):
        found = found[1:]
    return found


def _is_punctuation(token: TextToken) -> bool:
    """Return whether a token is a mark and no picture such as an emoji."""
    return token.kind is Kind.MARK and regex.match(r"[\p{P}\s]", token.text) is not None


def _is_of_a_call(tokens: Sequence[TextToken], token: TextToken) -> bool:
    """Return whether a bracket belongs to a function: f(x), O(n)."""
    opened = [t.start for t in tokens if t.text == "(" and t.start <= token.start]
    return token.text in "()" and bool(opened) and any(t.end == opened[-1] for t in tokens)


def _is_article(token: TextToken, following: TextToken) -> bool:
    if token.folded not in ("a", "an", "the", "l'", "un'"):
        return False
    return len(following.text) > 1 and following.start - token.end <= 1


def same_word(a: str, b: str) -> bool:
    """Return whether two words are the same but for capitals that say nothing.

    Capitals of a short word may be its meaning: mW and MW, TT and Tt, NO and No. There lower case
    stands for any, and a capital at the start for lower case.
    """
    if a == b:
        return True
    if fold(a) != fold(b):
        return False
    letters = "".join(sign for sign in a if sign.isalpha())
    if len(set(fold(letters))) == 1 and 1 < len(letters) < 4:
        return False  # TT, Tt and tt: alleles
    if len(letters) > 3 or a.islower() or b.islower():
        return True
    irregular = any(word[1:] != word[1:].lower() and not word.isupper() for word in (a, b))
    return not irregular and (len(letters) > 2 or fold(a) in ("no", "si", "ja", "да", "sí", "ok"))
