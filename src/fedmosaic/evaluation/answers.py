"""Read the option that a generated text chooses.

Four mistakes are avoided: matching a substring ("dark red" is not "red", "10" is not "1"), taking
the article "a" for choice A, taking an option that is denied ("red, not blue"), and guessing where
a text names several options.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

_LETTERED = re.compile(r"^\s*\(?([A-Z])\s*[).:]\s*(\S.*)$", re.S)
_LEAD = r"\b(?:answer|option|choice)\b(?:\s+(?:is|would\s+be|should\s+be)\b)?\W*"
_NUMBERS = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_SAME_NUMBER = {word: str(value) for value, word in enumerate(_NUMBERS)} | {
    str(value): word for value, word in enumerate(_NUMBERS)
}
_DENIED = re.compile(r"(?:\bnot|n't|\bnever|\bneither|\bnor)\s+(?:an?\s+|the\s+)?$")
# Kana and han, which are written without spaces between words.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_QUOTES = str.maketrans("‘’“”`", "''\"\"'")

# A single letter, from the most to the least certain form. "A" and "I" are also words, and any
# letter in lower case may be one. In running text these count only at the end of a clause.
_LETTER_FORMS = (
    re.compile(r"^\W*([A-Za-z])\W*$"),
    re.compile(r"^\W*([A-Za-z])\s?[).:](?=\s|$)"),
    re.compile(rf"(?i:{_LEAD})([B-HJ-Z]\b|[A-Za-z](?=\W*$|[).:,;]|\s+(?:is|because|since|as)\b))"),
    re.compile(r"\(([A-Za-z])\)"),
    re.compile(r"(?<![\w'])([B-HJ-Z]|A(?=\W*$|[).:,;]|\s+(?:or|and)\s+[A-Z]\b))(?![\w'])"),
)


def normalise(text: str) -> str:
    """Normalise a text for comparison.

    The result has lower case, one form of every character, single spaces, spaces for hyphens in
    words, and no outer punctuation.
    """
    folded = unicodedata.normalize("NFKC", text.translate(_QUOTES)).casefold()
    folded = re.sub(r"(?<=[^\W\d])[-_‐‑](?=[^\W\d])", " ", folded)
    single = " ".join(folded.split())
    inner = re.sub(r"""^(?:[\s,;:!?"'*()\[\]{}]|\.(?!\d))+|[\s.,;:!?"'*()\[\]{}]+$""", "", single)
    return inner or single  # an option may be only punctuation, such as "?"


def lists_letters(prompt: str, count: int) -> bool:
    """Return whether a prompt letters its ``count`` options: "A. red", "(B) blue", "C: green"."""
    letters = [chr(ord("A") + index) for index in range(min(count, 26))]
    return count > 1 and all(
        re.search(rf"(?:^|[\s\[(|,;]){letter}[.):]\s*\S", prompt) for letter in letters
    )


def read_choice(text: str, options: Sequence[str], lettered: bool = False) -> int | None:
    """Return the index of the option that ``text`` chooses, or None if it names none or several.

    The first of these rules that applies decides:

    1. The whole text is an option.
    2. A letter stands for an option, where options are lettered.
    3. An option follows "the answer is" or opens the text, and punctuation ends it.
    4. Only one option occurs as whole words. A longer option hides the shorter ones in it, and a
       denied option does not count.
    5. Only one option occurs so in the first sentence.

    Args:
        text: A generated answer.
        options: Options as listed in the prompt. "A. red" means the option "red" with the letter A.
            Options that are single capitals are letters.
        lettered: The prompt letters the options A, B, C ... in order (see :func:`lists_letters`).
    """
    parts = [_LETTERED.match(option) for option in options]
    own_letters = all(part is not None for part in parts) and len(options) > 1
    words = [
        normalise(part[2] if own_letters and part else option)
        for part, option in zip(parts, options, strict=True)
    ]
    answer = normalise(text)
    for whole in (answer, _SAME_NUMBER.get(answer, "")):
        if whole and whole in words:
            return words.index(whole)
    if options and all(re.fullmatch(r"\s*[A-Z]\s*", option) for option in options):
        return _read_letter(text, {option.strip(): index for index, option in enumerate(options)})
    if own_letters or lettered:
        letters = [
            part[1] if own_letters and part else chr(ord("A") + index)
            for index, part in enumerate(parts[:26])
        ]
        by_letter = {letter: index for index, letter in reversed(list(enumerate(letters)))}
        index = _read_letter(text, by_letter)
        if index is not None:
            return index
    leading = _leading(answer, words)
    return leading if leading is not None else _only_occurring(text, answer, words)


def _leading(answer: str, words: Sequence[str]) -> int | None:
    """Return the longest option that follows "the answer is" or opens the answer."""
    lead = re.search(_LEAD, answer)
    for start in ([answer[lead.end() :]] if lead else []) + [answer]:
        for index in sorted(range(len(words)), key=lambda i: -len(words[i])):
            if words[index] and re.match(
                _bounded(words[index]) + r"(?=\s*(?:[.,;:!?)\n]|$))", start
            ):
                return index
    return None


def _only_occurring(text: str, answer: str, words: Sequence[str]) -> int | None:
    """Return the option that alone occurs in the answer, or else in its first sentence."""
    sentence = re.split(r"[.;!?](?:\s|$)|\n", text.strip(), maxsplit=1)[0]
    for passage in (answer, sentence):
        found = _occurring(normalise(passage), words)
        if len(found) == 1:
            return found.pop()
    return None


def _read_letter(text: str, letters: Mapping[str, int]) -> int | None:
    """Return the index of the only letter in the most certain form that the text has."""
    plain = unicodedata.normalize("NFKC", text).replace("*", " ").strip()
    for form in _LETTER_FORMS:
        named = {
            letters[found.upper()] for found in form.findall(plain) if found.upper() in letters
        }
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def _occurring(answer: str, words: Sequence[str]) -> set[int]:
    """Return the options that occur as whole words, undenied; at each place the longest counts."""
    longest_first = sorted({word for word in words if word}, key=lambda word: (-len(word), word))
    if not longest_first:
        return set()
    matches = re.finditer("|".join(_bounded(word) for word in longest_first), answer)
    return {
        words.index(match[0]) for match in matches if not _DENIED.search(answer[: match.start()])
    }


def _bounded(word: str) -> str:
    """Return a pattern for the word that does not match inside a longer word or number."""
    before = after = ""
    if re.match(r"\w", word[0]) and not _UNSPACED.match(word[0]):
        before = r"(?<!\w)(?<!\d[.,:/])" + (r"(?<!-)" if word[0].isdigit() else "")
    if re.match(r"\w", word[-1]) and not _UNSPACED.match(word[-1]):
        after = r"(?!\w)(?![.,:/]\d)"
    return before + re.escape(word) + after
