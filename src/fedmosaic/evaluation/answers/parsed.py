"""See an answer as clauses and sentences, with what stands beside each word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import regex

from fedmosaic.evaluation.answers import vocabulary
from fedmosaic.evaluation.answers.tokens import Kind, TextToken, tokenise

_SENTENCE_ENDS = frozenset(".!?。！？।؟…\n;；｡")
_CLAUSE_ENDS = _SENTENCE_ENDS | frozenset(",:，、：،؛–—-()[]{}")
_GLUE = r"[-/+|&'^*#=_\\]"
_LETTER = r"[\p{Latin}\p{Cyrillic}\p{Greek}\p{N}\p{M}]"
_BETWEEN_LEAD_AND_ANSWER = frozenset(":=-–—\n\"'([{«»*：→⇒.>")


def _pattern(phrases: Sequence[str]) -> regex.Pattern[str]:
    return regex.compile(rf"(?<![\p{{L}}\p{{M}}])(?:{'|'.join(map(regex.escape, phrases))})"
                         r"(?![\p{L}\p{M}])", regex.I)  # fmt: skip


_ALL_BUT = regex.compile(rf"(?i)\b(?:{vocabulary.ALL_BUT}|{vocabulary.NOTHING_BUT}) $")
_TAG_QUESTION = regex.compile(rf"(?i){vocabulary.TAG_QUESTION}$")
_CONCLUDING = regex.compile(
    rf"(?i){vocabulary.CONCLUDING}(?:\W|\b(?:it|it's|is|that|that's|the|a|an|this|answer|must|be|i"
    r"|option|choice|would|will|say|choose|pick|go|with)\b)*$"
)
CONFIRMING = _pattern(vocabulary.CONFIRMING)


@dataclass(frozen=True)
class ParsedAnswer:
    """Hold an answer in one form (see :func:`clean.one_form`) and its tokens."""

    text: str

    @cached_property
    def tokens(self) -> list[TextToken]:
        """Return the tokens in sequence."""
        return tokenise(self.text)

    @cached_property
    def _clause_of(self) -> list[int]:
        """Return the number of each token's clause. A word that turns begins a new one."""
        turns = {
            match.start()
            for phrase in vocabulary.UNSPACED_TURNS
            for match in regex.finditer(regex.escape(phrase), self.text)
        }
        numbers: list[int] = []
        number = 0
        for token in self.tokens:
            ends = token.kind is Kind.MARK and token.text in _CLAUSE_ENDS
            ends = ends and not self._is_around_one(len(numbers))
            turns_here = token.folded in vocabulary.TURNS and not _ALL_BUT.search(
                self.text[: token.start]
            )
            number += ends or turns_here or token.start in turns
            numbers.append(number)
            number += ends
        return numbers

    def _is_around_one(self, place: int) -> bool:
        """Return whether a bracket stands beside a single letter, as in (A)."""
        at = place + 1 if self.tokens[place].text in "([{" else place - 1
        inner = self.tokens[at].text if 0 <= at < len(self.tokens) else ""
        return self.tokens[place].text in "()[]{}" and len(inner) == 1 and self.is_enclosed(at)

    @cached_property
    def _sentence_of(self) -> list[int]:
        numbers, number = [], 0
        is_list = regex.match(r"\W*1[.)] ", self.text) is not None
        for token in self.tokens:
            labels = is_list and regex.search(r"(?<!\S)\d\.\Z", self.text[: token.end][-4:])
            numbers.append(number)
            number += token.text in _SENTENCE_ENDS and not labels
        return numbers

    def clause(self, place: int) -> range:
        """Return the places of the tokens in the clause of a token."""
        return self._same(self._clause_of, place)

    def next_clause(self, place: int) -> range:
        """Return the places of the clause after that of a token, in the same sentence."""
        end = self.clause(place)[-1] + 1
        while end < len(self.tokens) and self.tokens[end].kind is Kind.MARK:
            if self.tokens[end].text in _SENTENCE_ENDS:
                return range(0)
            end += 1
        last = self.tokens[end - 1]
        if end >= len(self.tokens) or last.text in _SENTENCE_ENDS:
            return range(0)
        return self.clause(end)

    def sentence(self, place: int) -> range:
        """Return the places of the tokens in the sentence of a token, with its last mark."""
        return self._same(self._sentence_of, place)

    @staticmethod
    def _same(numbers: Sequence[int], place: int) -> range:
        start, end = place, place + 1
        while start > 0 and numbers[start - 1] == numbers[place]:
            start -= 1
        while end < len(numbers) and numbers[end] == numbers[place]:
            end += 1
        return range(start, end)

    def words(self, places: Sequence[int]) -> list[str]:
        """Return the folded tokens at places, without punctuation."""
        found = (self.tokens[place] for place in places)
        return [token.folded for token in found if token.kind is not Kind.MARK]

    @cached_property
    def all_words(self) -> list[str]:
        """Return the folded tokens without punctuation."""
        return self.words(range(len(self.tokens)))

    @cached_property
    def verdicts_lead(self) -> bool:
        """Return whether ticks and crosses stand before what they are for: "✅ red"."""
        signs = vocabulary.TICKS | vocabulary.CROSSES
        first = next((i for i, token in enumerate(self.tokens) if token.text in signs), 0)
        return first == 0 or self.tokens[first - 1].text == "\n"

    def is_whole(self, place: int) -> bool:
        """Return whether a token is the only one but for punctuation."""
        return len(self.all_words) == 1 and (self.tokens[place].kind is not Kind.MARK)

    def is_last(self, place: int) -> bool:
        """Return whether nothing follows a token, not even punctuation."""
        return place == len(self.tokens) - 1

    def is_sole(self, place: int, text: str, end: int | None = None) -> bool:
        """Return whether a clause says nothing but what stands at a place."""
        rest = [i for i in self.clause(place) if not place <= i < (end or place + 1)]
        others = [word for word in self.words(rest) if word != text.casefold()]
        allowed = vocabulary.OPENERS if text != "I" else frozenset({"so", "hmm", "well"})
        allowed |= vocabulary.TICKS | vocabulary.CROSSES
        return all(word in allowed for word in others) and (
            not self._is_followed_by_letters(place, end)
        )

    def _is_followed_by_letters(self, place: int, end: int | None) -> bool:
        after = self.tokens[(end or place + 1) - 1].end
        return regex.match(r"[\p{L}\p{N}]", self.text[after : after + 1]) is not None

    def starts_clause(self, place: int) -> bool:
        """Return whether only words like "so" stand before a token in its clause."""
        before = [i for i in self.clause(place) if i < place]
        allowed = vocabulary.OPENERS | vocabulary.TURNS | vocabulary.OPTION_NOUNS | {"only"}
        return all(word in allowed for word in self.words(before))

    def next_word(self, place: int) -> int:
        """Return the place of the next token that is no punctuation and no article."""
        place += 1
        while place < len(self.tokens) and (
            self.tokens[place].kind is Kind.MARK or self.tokens[place].folded in ("the", "a", "an")
        ):
            place += 1
        return place

    def is_glued(self, place: int) -> bool:
        """Return whether a token is part of something longer: C-section, A/B, U.S."""
        token = self.tokens[place]
        before, after = self.text[: token.start], self.text[token.end :]
        return bool(
            regex.search(
                rf"{_LETTER}{_GLUE}?\Z|[\p{{L}}\p{{N}})]{_GLUE}\Z|[/+|&^#=]\s?\Z", before[-3:]
            )
            or regex.match(rf"{_LETTER}|{_GLUE}[\p{{L}}\p{{N}}(]|\+|\s?[/+|&^#=]", after[:3])
        )

    def is_enclosed(self, place: int) -> bool:
        """Return whether brackets stand around a token, and no function's name before them."""
        token = self.tokens[place]
        before, after = self.text[: token.start], self.text[token.end :]
        return (
            regex.search(r"(?<![\p{Latin}\d])[(\[{]\Z", before) is not None and after[:1] in ")]}"
            if after[:1]
            else False
        )

    def is_led(self, place: int) -> bool:
        """Return whether "the answer is", "option" or their like stand before a token."""
        at = place - 1
        while at >= 0:
            token = self.tokens[at]
            if token.folded in vocabulary.ANSWER_NOUNS | vocabulary.OPTION_NOUNS:
                return True
            if token.folded in vocabulary.LEAD_FILLERS or token.text in _BETWEEN_LEAD_AND_ANSWER:
                at -= 1
                continue
            break
        before = self.text[: self.tokens[place].start]
        previous = None
        while previous != before:
            previous, before = before, before.rstrip(" :\n\"'([{：-—「『【*=")
            for filler in vocabulary.UNSPACED_LEAD_FILLERS:
                if not before.endswith(vocabulary.UNSPACED_ANSWER_NOUNS):
                    before = before.removesuffix(filler)
        return before.endswith(vocabulary.UNSPACED_ANSWER_NOUNS)

    def is_confirmed(self, place: int) -> bool:
        """Return whether "is correct" or its like starts at a token."""
        if place >= len(self.tokens):
            return False
        rest = self.text[self.tokens[place].start :]
        return bool(CONFIRMING.match(rest)) or rest.startswith(vocabulary.UNSPACED_CONFIRMING)

    def is_concluded(self, place: int) -> bool:
        """Return whether "so" or "which leaves" or their like stand before a token."""
        return _CONCLUDING.search(self.text[: self.tokens[place].start][-80:]) is not None

    def is_asked(self, place: int) -> bool:
        """Return whether a token's sentence is a question."""
        last = self.tokens[self.sentence(place)[-1]]
        return last.text in "?？؟" and not _TAG_QUESTION.search(self.text[: last.end])
