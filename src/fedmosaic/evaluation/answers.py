"""Reading which option a generated text chooses.

Traps this avoids: the first substring ("dark red" is not "red", "10" is not "1"), the article "a" taken for choice A.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

LETTERS = "ABCDEFGHIJ"
_LETTERED = re.compile(r"^\s*\(?([A-J])\s*[).:]\s*(.+)$", re.S)
_LEAD = r"(?:the\s+)?(?:correct\s+|right\s+|best\s+)?(?:answer|option|choice)\s*(?:is|:|=)?\s*"
_WHOLE_LETTER = re.compile(r"^\W*([A-Ja-j])\W*$")
_MARKED_LETTER = re.compile(r"^\s*(?:\(([A-Ja-j])\)|([A-Ja-j])[).:])(?:\s|$)")
_NAMED_LETTER = re.compile(_LEAD + r"\(?([A-Ja-j])(?:\)|[.:]?\s*$|[.:,]\s)", re.I)


def normalise(text: str) -> str:
    """Lower case, one form of every character, single spaces, no surrounding punctuation."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", folded).strip().strip(".,;:!?\"'`*()[]{}").strip()


def read_choice(text: str, options: Sequence[str]) -> int | None:
    """The index of the option that ``text`` chooses, or None if it names none, or more than one.

    In order: the whole text is an option; the whole text is a letter, or it starts with a marked letter ("(B)", "b.", "B:"), or names one
    ("the answer is C"); exactly one option occurs as whole words, where a longer option hides the shorter ones in it.

    Args:
        options: as listed in the prompt; "A. red" means the option "red" with the letter A.
    """
    words = [normalise(_bare(option)) for option in options]
    said = normalise(text)
    if said in words:
        return words.index(said)
    letter = _letter(text, len(options))
    if letter is not None and letter < len(options):
        return letter
    found = _occurring(said, words)
    if len(found) > 1:
        # "Answer: red, not blue": what follows the word "answer" decides, if it is clear.
        lead = re.search(_LEAD, said)
        at_once = [i for i in found if lead and re.match(_bounded(words[i]), said[lead.end() :])]
        found = at_once if len(at_once) == 1 else found
    return found[0] if len(found) == 1 else None


def _bare(option: str) -> str:
    lettered = _LETTERED.match(option)
    return lettered[2] if lettered else option


def _letter(text: str, count: int) -> int | None:
    plain = unicodedata.normalize("NFKC", text)
    for pattern in (_WHOLE_LETTER, _MARKED_LETTER, _NAMED_LETTER):
        found = pattern.search(plain)
        if found:
            letter = next(group for group in found.groups() if group).upper()
            index = LETTERS.index(letter)
            return index if index < count else None
    return None


def _occurring(said: str, words: Sequence[str]) -> list[int]:
    """Options that occur as whole words, longest first, each hiding its place from shorter ones."""
    rest, found = said, []
    for index in sorted(range(len(words)), key=lambda i: -len(words[i])):
        if not words[index]:
            continue
        rest, count = re.subn(_bounded(words[index]), " \0 ", rest)
        if count:
            found.append(index)
    return sorted(found)


def _bounded(word: str) -> str:
    """The word with nothing of a longer word or number on either side."""
    return r"(?<![\w])(?<!\d[.,])(?<!-)" + re.escape(word) + r"(?![\w])(?![.,]\d)(?!-)"
