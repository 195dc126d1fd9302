"""Read numbers: digits of any script, separators, fractions, times, units, English words."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from fractions import Fraction

import regex

from fedmosaic.evaluation.answers.vocabulary import FOREIGN_NUMBERS, UNITS

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen"),
    "nineteen",
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {
    word: 10 * value for value, word in enumerate(_TENS, start=2)
}
_BELOW_100 = rf"(?:(?:{'|'.join(_TENS)})(?:[- ](?:{'|'.join(_SMALL[1:10])}))?|{'|'.join(_SMALL)})"
_BELOW_1000 = rf"(?:{_BELOW_100} hundred(?:(?: and)? {_BELOW_100})?|{_BELOW_100})"
_SCALES = {
    "hundred": 100,
    "dozen": 12,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "tenth": 10}

_CURRENCY = r"(?:US|A|C)?[$€£¥₹₩₽]|USD\s|EUR\s|GBP\s"
# From the most to the least particular form; a comma may part thousands or decimals.
_CORES = "|".join(
    (
        r"(?P<time>\d{1,2}:\d{2}(?::\d{2})?)",
        r"(?P<mixed>\d+(?: |-| and )\d+ ?/ ?\d+)",
        r"(?P<fraction>\d+ ?/ ?\d+)",
        r"(?P<grouped>\d{1,3}(?:(?:,\d{2,3})*,\d{3}|(?:[ '_]\d{3})+)(?:\.\d+)?)",
        r"(?P<dotted>\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?|\d{1,3}\.\d{3},\d+)",
        r"(?P<comma>\d+,\d+)",
        r"(?P<plain>\d*\.\d+|\d+)",
    )
)
_UNIT = "|".join(sorted(map(regex.escape, UNITS), key=lambda unit: -len(unit)))
_SCALE = "|".join(_SCALES)
_NUMBER = regex.compile(
    rf"(?P<sign>[-–—+](?=[$€£¥.\d])|(?:minus|negative) (?=[$€£¥.\d]))?"
    rf"(?P<currency>{_CURRENCY})?(?P<minus>-)?"
    rf"(?:{_CORES})(?P<scale> (?:{_SCALE})s?\b)?(?: ?(?P<unit>{_UNIT})(?![\p{{L}}\p{{M}}\d^]))?"
    r"(?P<half>[ ]?(?:[ap]\.m\.|[ap]m\b))?"
    # What makes it another number, or none: 1.5, 1:30, 2-3, 3rd, 3x, 5^2, 3!, 2/3/4.
    r"(?![\p{Script=Latin}\p{Cyrillic}\p{Greek}\d^_!]|[.,:/'–-]\d|\(\d)",
    regex.I,
)
_WORDS = regex.compile(
    r"(?:(?P<minus>minus|negative) )?"
    rf"(?P<words>{_BELOW_1000}(?: (?:{_SCALE})(?:(?: and|,)? {_BELOW_1000})?)*)"
    r"(?P<part> and (?:a|one) half|[- ](?:half|halves|thirds?|quarters?|fourths?|fifths?|tenths?))?"
    rf"(?: ?(?P<unit>{_UNIT}))?(?![\p{{L}}\p{{M}}\d'-])",
    regex.I,
)
# Chinese numerals count where a measure word follows; 一 may be an article.
_COUNTED = regex.compile(
    r"(?<![第一二两三四五六七八九十百千万])(?P<tens>[二三四五六七八九]?十)?"
    r"(?P<ones>[二两兩三四五六七八九])?"
    r"(?<=[十二两兩三四五六七八九])(?=[个個只隻匹条條辆輛张張头頭位名艘朵棵把件本台座架根])"
)
# What stands before the digits of a longer number or of a name: 1.5, 2-3, B12, √2.
_INSIDE = regex.compile(
    r"(?:[\p{Script=Latin}\p{Cyrillic}\p{Greek}\d^√±_]|\d[.,:/'–]|[\p{L}\d]-|[√±] )\Z"
)


MOST_DIGITS = 200
"""Longest number that is read; Python refuses to convert much longer ones."""


@dataclass(frozen=True)
class Quantity:
    """Hold a number as it may be meant.

    Attributes:
        values: What it is: one value; two for a time after noon.
        unit: Its unit in one spelling, or empty.
        words: It is written in words.
        doubtful: What it is where a comma parts decimals, and a stop thousands: 4,500 is 4500, and
            may be 4.5.
    """

    values: frozenset[Fraction]
    unit: str = ""
    words: bool = False
    doubtful: frozenset[Fraction] = frozenset()

    def fits(self, other: Quantity) -> bool:
        """Return whether both are the same, where one of them may leave the unit out."""
        return self._may_share_unit(other) and bool(self.values & other.values)

    def may_fit(self, other: Quantity) -> bool:
        """Return whether both may be the same by the doubtful reading of one of them."""
        doubtful = (self.doubtful & other.values) | (self.values & other.doubtful)
        return self._may_share_unit(other) and bool(doubtful)

    def _may_share_unit(self, other: Quantity) -> bool:
        units = {self.unit, other.unit}
        if any(unit.startswith("time") for unit in units):
            units -= {"time"}
            return len(units) < 2 and "" not in units
        return len(units - {""}) < 2


def ascii_digits(text: str) -> str:
    """Return a text with the digits of every script as 0 to 9."""
    text = regex.sub(r"(?![0-9])\p{Nd}", lambda match: str(unicodedata.digit(match[0])), text)
    return text


def number_at(text: str, start: int) -> tuple[Quantity, int] | None:
    """Return the number that starts at a place of a text, and where it ends; None without one."""
    if _INSIDE.search(text, max(0, start - 2), start):
        return None
    match = _NUMBER.match(text, start)
    if match and len(match[0]) <= MOST_DIGITS and not _is_primed(text, start, match.end()):
        quantity = _of_digits(match)
        return None if quantity is None else (quantity, match.end())
    if match := _WORDS.match(text, start):
        return _of_words(match), match.end()
    if (match := _COUNTED.match(text, start)) and match[0]:
        return _of_chinese(match), match.end()
    return None


def _is_primed(text: str, start: int, end: int) -> bool:
    """Return whether a mark of feet, minutes or inches follows: 5', not '5'."""
    mark = text[end : end + 1]
    return mark in ("'", '"') and text[max(0, start - 1) : start] != mark


def whole_word(text: str) -> Quantity | None:
    """Return the number that a text is in a language other than English."""
    value = FOREIGN_NUMBERS.get(text.casefold())
    return None if value is None else Quantity(frozenset({Fraction(value)}), "", True)


def _of_digits(match: regex.Match[str]) -> Quantity | None:
    if match["time"]:
        return _of_time(match)
    read = _values(match)
    if read is None:
        return None
    factor = _SCALES[match["scale"].strip().casefold().rstrip("s")] if match["scale"] else 1
    if (match["sign"] or "+") != "+" or match["minus"]:
        factor = -factor
    values, doubtful = (frozenset(factor * value for value in part) for part in read)
    return Quantity(values, _unit_of(match), False, doubtful)


def _unit_of(match: regex.Match[str]) -> str:
    if match["currency"]:
        sign: str = match["currency"].strip().upper()
        return {"USD": "$", "US$": "$", "EUR": "€", "GBP": "£"}.get(sign, sign)
    unit: str = match["unit"] or match["half"] or ""
    unit = unit.strip().replace("a.m.", "am").replace("p.m.", "pm")
    return UNITS.get(unit) or UNITS.get(unit.casefold()) or str(unit.casefold())


def _values(match: regex.Match[str]) -> tuple[set[Fraction], set[Fraction]] | None:
    """Return the values and the doubtful values of digits; None where they divide by zero."""
    if text := match["mixed"] or match["fraction"]:
        *whole, top, bottom = map(int, regex.findall(r"\d+", text))
        return ({sum(whole) + Fraction(top, bottom)}, set()) if bottom else None
    if text := match["grouped"]:
        value = Fraction(regex.sub(r"[, '_]", "", text))
        single = regex.fullmatch(r"(\d+),(\d+)", text)
        return {value}, {Fraction(f"{single[1]}.{single[2]}")} if single else set()
    if text := match["dotted"]:
        return {Fraction(text.replace(".", "").replace(",", "."))}, set()
    text = (match["comma"] or match["plain"]).replace(",", ".")
    grouped = regex.fullmatch(r"[1-9]\d{0,2}\.\d{3}", text)
    return {Fraction(text)}, {Fraction(text.replace(".", ""))} if grouped else set()


def _of_time(match: regex.Match[str]) -> Quantity:
    hours, minutes, *seconds = map(int, match["time"].split(":"))
    half = (match["half"] or "").strip().casefold().replace(".", "")
    value = Fraction(60 * hours + minutes) + Fraction(sum(seconds), 60)
    later = {value + 720} if half == "pm" and hours < 12 else set()
    return Quantity(frozenset({value, *later}), f"time {half}".strip() if half else "time")


def _of_chinese(match: regex.Match[str]) -> Quantity:
    digits = "〇一二三四五六七八九"
    tens, ones = match["tens"] or "", (match["ones"] or "").translate({20004: 20108, 20841: 20108})
    value = 10 * (digits.index(tens[0]) if len(tens) > 1 else len(tens))
    return Quantity(frozenset({Fraction(value + (digits.index(ones) if ones else 0))}), "", True)


def _of_words(match: regex.Match[str]) -> Quantity:
    total, group = 0, 0
    for word in regex.findall(r"[a-z]+", match["words"].casefold()):
        if word in _VALUES:
            group += _VALUES[word]
        elif word == "hundred":
            group = max(group, 1) * 100
        elif word in _SCALES:
            total, group = total + max(group, 1) * _SCALES[word], 0
    value = Fraction(total + group)
    if part := (match["part"] or "").casefold().strip(" -"):
        name = "half" if "hal" in part else part.rstrip("s")
        value = value + Fraction(1, 2) if part.startswith("and") else value / _PARTS[name]
    unit = UNITS.get((match["unit"] or "").casefold(), "")
    return Quantity(frozenset({-value if match["minus"] else value}), unit, True)
