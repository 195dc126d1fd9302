"""Reading which option a generated text chooses.

Traps this avoids: the first substring ("dark red" is not "red", "10" is not "1"), the article "a" taken for choice A, an
option that is only named to be denied ("red, not blue"), guessing when a text names several options.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

_LETTERED = re.compile(r"^\s*\(?([A-Z])\s*[).:]\s*(\S.*)$", re.S)
_LEAD = r"\b(?:answer|option|choice)\b(?:\s+(?:is|would\s+be|should\s+be)\b)?\W*"
_NUMBERS = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
_SAME_NUMBER = {word: str(value) for value, word in enumerate(_NUMBERS)} | {
    str(value): word for value, word in enumerate(_NUMBERS)
}
_DENIED = re.compile(r"(?:\bnot|n't|\bnever|\bneither|\bnor)\s+(?:an?\s+|the\s+)?$")
_UNSPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]"
)  # kana and han: words without spaces between them
_QUOTES = str.maketrans("‘’“”`", "''\"\"'")

# A lone letter, from the surest form to the least sure. "A" and "I" are also words, and any letter in lower case may be
# one, so these count in running text only where no further word of the sentence follows them.
_LETTER_FORMS = (
    re.compile(r"^\W*([A-Za-z])\W*$"),
    re.compile(r"^\W*([A-Za-z])\s?[).:](?=\s|$)"),
    re.compile(rf"(?i:{_LEAD})([B-HJ-Z]\b|[A-Za-z](?=\W*$|[).:,;]|\s+(?:is|because|since|as)\b))"),
    re.compile(r"\(([A-Za-z])\)"),
    re.compile(r"(?<![\w'])([B-HJ-Z]|A(?=\W*$|[).:,;]|\s+(?:or|and)\s+[A-Z]\b))(?![\w'])"),
)


def normalise(text: str) -> str:
    """Lower case, one form of every character, single spaces, spaces for hyphens in words, no outer punctuation."""
    folded = unicodedata.normalize("NFKC", text.translate(_QUOTES)).casefold()
    folded = re.sub(r"(?<=[^\W\d])[-_‐‑](?=[^\W\d])", " ", folded)
    single = " ".join(folded.split())
    inner = re.sub(r"""^(?:[\s,;:!?"'*()\[\]{}]|\.(?!\d))+|[\s.,;:!?"'*()\[\]{}]+$""", "", single)
    return inner or single  # an option may be a sign, such as "?"


def lists_letters(prompt: str, count: int) -> bool:
    """Whether a prompt letters its ``count`` options: "A. red", "(B) blue", "C: green" ..."""
    letters = [chr(ord("A") + index) for index in range(min(count, 26))]
    return count > 1 and all(
        re.search(rf"(?:^|[\s\[(|,;]){letter}[.):]\s*\S", prompt) for letter in letters
    )


def read_choice(text: str, options: Sequence[str], lettered: bool = False) -> int | None:
    """The index of the option that ``text`` chooses, or None if it names none, or several.

    The first of these that applies: the whole text is an option; a letter stands for one (where options are lettered); an
    option follows "the answer is" or opens the text and punctuation ends it; one option alone occurs as whole words, where
    a longer option hides the shorter ones in it and a denied one does not count; so it is in the first sentence.

    Args:
        options: as listed in the prompt. "A. red" means the option "red" with the letter A; options that are single
            capitals are letters.
        lettered: the prompt letters the options A, B, C ... in this order (see :func:`lists_letters`).
    """
    parts = [_LETTERED.match(option) for option in options]
    bare = all(part is not None for part in parts) and len(options) > 1
    words = [
        normalise(part[2] if bare and part else option)
        for part, option in zip(parts, options, strict=True)
    ]
    said = normalise(text)
    for whole in (said, _SAME_NUMBER.get(said, "")):
        if whole and whole in words:
            return words.index(whole)

    only_letters = bool(options) and all(re.fullmatch(r"\s*[A-Z]\s*", option) for option in options)
    if only_letters:
        return _read_letter(text, {option.strip(): index for index, option in enumerate(options)})
    if bare or lettered:
        letters = [
            part[1] if bare and part else chr(ord("A") + index)
            for index, part in enumerate(parts[:26])
        ]
        letter = _read_letter(
            text, {name: index for index, name in reversed(list(enumerate(letters)))}
        )
        if letter is not None:
            return letter

    lead = re.search(_LEAD, said)
    for start in ([said[lead.end() :]] if lead else []) + [said]:
        for index in sorted(range(len(words)), key=lambda i: -len(words[i])):
            if words[index] and re.match(
                _bounded(words[index]) + r"(?=\s*(?:[.,;:!?)\n]|$))", start
            ):
                return index
    for passage in (said, re.split(r"[.;!?](?:\s|$)|\n", text.strip(), maxsplit=1)[0]):
        found = _occurring(normalise(passage), words)
        if len(found) == 1:
            return found.pop()
    return None


def _read_letter(text: str, letters: Mapping[str, int]) -> int | None:
    plain = unicodedata.normalize("NFKC", text).replace("*", " ").strip()
    for form in _LETTER_FORMS:
        named = {
            letters[found.upper()] for found in form.findall(plain) if found.upper() in letters
        }
        if named:
            return named.pop() if len(named) == 1 else None
    return None


def _occurring(said: str, words: Sequence[str]) -> set[int]:
    """Options that occur as whole words and are not denied; at each place the longest counts."""
    longest_first = sorted({word for word in words if word}, key=lambda word: (-len(word), word))
    if not longest_first:
        return set()
    matches = re.finditer("|".join(_bounded(word) for word in longest_first), said)
    return {words.index(match[0]) for match in matches if not _DENIED.search(said[: match.start()])}


def _bounded(word: str) -> str:
    """A pattern for the word with nothing of a longer word or number on either side."""
    before = after = ""
    if re.match(r"\w", word[0]) and not _UNSPACED.match(word[0]):
        before = r"(?<!\w)(?<!\d[.,:/])" + (r"(?<!-)" if word[0].isdigit() else "")
    if re.match(r"\w", word[-1]) and not _UNSPACED.match(word[-1]):
        after = r"(?!\w)(?![.,:/]\d)"
    return before + re.escape(word) + after
