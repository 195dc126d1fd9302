"""Tell whether an answer asserts, denies or merely mentions an option."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

import regex

from fedmosaic.evaluation.answers import vocabulary
from fedmosaic.evaluation.answers.mentions import Mention
from fedmosaic.evaluation.answers.parsed import ParsedAnswer

_EXCEPT = "(?:but|except(?: for)?|save|excluding|other than|besides)"
_NEGATING = regex.compile(
    rf"\b(?:{vocabulary.ALL_BUT} {_EXCEPT}|{'|'.join(vocabulary.NEGATING_PHRASES)})\b", regex.I
)
_ASSERTING = regex.compile(
    rf"\b(?:{vocabulary.NOTHING_BUT} {_EXCEPT}|{'|'.join(vocabulary.ASSERTING_PHRASES)})\b",
    regex.I,
)
_NOT_ONLY = regex.compile(rf"\b(?:{'|'.join(vocabulary.NOT_ONLY)})\b", regex.I)
_BETWEEN = regex.compile(
    rf"(?i)\b{vocabulary.BETWEEN}\b(?:[^.!?\n]*\b(?:and|y|e|et|und|и))?"
    r"\W*(?:(?:the|option|choice|letter|la|le|el|die|der|das)\b\W*)*$"
)
_NOT_QUITE = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}'])(?:{'|'.join(vocabulary.NOT_QUITE)})(?![\p{{L}}\p{{M}}])", regex.I
)
_LIMIT = regex.compile(rf"\b(?:{'|'.join(vocabulary.LIMITS)})\W*$", regex.I)


_LIKEWISE = regex.compile(r"(?i)\b(?:so|as) (?:is|are|was|were|do|does|can)(?: the)?$")
_CLAUSES_BACK = 6  # with their commas


class Standing(Enum):
    """Say how an answer speaks of an option.

    ``ASSERTED``: nothing speaks against it. ``DENIED``: "not red". ``REASON``: in a subordinate
    clause, "because red is …". ``ASIDE``: compared, asked about or supposed, "darker than red".
    ``UNCLEAR``: denied twice, or in a way that may belong to another word.
    """

    ASSERTED = "asserted"
    DENIED = "denied"
    REASON = "reason"
    ASIDE = "aside"
    UNCLEAR = "unclear"


def standings(answer: ParsedAnswer, mentions: Sequence[Mention]) -> list[Standing]:
    """Return how an answer speaks of each mention, in sequence."""
    found: list[Standing] = []
    for number, mention in enumerate(mentions):
        previous = mentions[number - 1] if number else None
        following = mentions[number + 1] if number + 1 < len(mentions) else None
        clause = answer.clause(mention.start)
        start = max(clause[0], previous.end if previous else 0)
        end = max(
            mention.end,
            min(clause[-1] + 1, following.start if following else len(answer.tokens)),
        )
        denials = _before(answer, start, mention.start)
        place = answer.next_word(mention.end - 1)
        denials += _is_crossed(answer, mention.start - 1, place)
        verdict_on_it = answer.next_clause(mention.end - 1)
        if following is None or following.start not in verdict_on_it:
            denials += _has_verdict(answer, mention, vocabulary.VERDICT_WRONG)
        if not _goes_on(answer, mention):
            denials += _after(answer, mention.end, end, following if end <= clause[-1] else None)
        if denials == 0 and previous and start == previous.end and found[-1] is Standing.DENIED:
            words = answer.words(range(start, mention.start))
            denials = int(all(word in vocabulary.JOINING | vocabulary.ARTICLES for word in words))
        if (
            previous
            and found[-1] is Standing.DENIED
            and _LIKEWISE.search(_span(answer, previous.end, mention.start))
        ):
            denials = 1
        if denials:
            found.append(Standing.DENIED if denials == 1 else Standing.UNCLEAR)
        else:
            found.append(_weaker(answer, mention, start, clause[0]))
    return _without_seeming(answer, mentions, _over_lists(answer, mentions, found))


def _over_lists(
    answer: ParsedAnswer, mentions: Sequence[Mention], found: Sequence[Standing]
) -> list[Standing]:
    """Let a denial hold for a whole list: "not red, blue or grey"; "A, B and C are wrong"."""
    result = list(found)
    for first, last in _lists(answer, mentions):
        part = mentions[first : last + 1]
        joint = answer.words(range(part[-2].end, part[-1].start))
        after = answer.words(range(part[-1].end, min(part[-1].end + 2, len(answer.tokens))))
        forward = found[first] is Standing.DENIED and joint[0] in vocabulary.OR and len(part) > 2
        backward = found[last] is Standing.DENIED and bool(set(after) & vocabulary.OF_SEVERAL)
        if forward or backward:
            result[first : last + 1] = [Standing.DENIED] * len(part)
    return result


def _lists(answer: ParsedAnswer, mentions: Sequence[Mention]) -> list[tuple[int, int]]:
    """Return the first and the last mention of each list: with commas, then "and" or "or"."""
    lists, first = [], 0
    for number in range(1, len(mentions)):
        between = answer.tokens[mentions[number - 1].end : mentions[number].start]
        words = [t.folded for t in between if t.text not in ",、()"]
        words = [word for word in words if word not in vocabulary.ARTICLES]
        if len(words) == 1 and words[0] in vocabulary.JOINING | vocabulary.OR:
            lists.append((first, number))
        if words or not between:
            first = number
    return lists


def _is_crossed(answer: ParsedAnswer, before: int, after: int) -> bool:
    """Return whether a cross stands beside a mention, on the side where marks stand."""
    place = before if answer.verdicts_lead else after
    return 0 <= place < len(answer.tokens) and answer.tokens[place].text in vocabulary.CROSSES


def _without_seeming(
    answer: ParsedAnswer, mentions: Sequence[Mention], found: Sequence[Standing]
) -> list[Standing]:
    """Set aside what only seems: "It looks like red, but it is blue"."""
    result = list(found)
    for number, mention in enumerate(mentions[:-1]):
        following = mentions[number + 1]
        clause, then = answer.clause(mention.start), answer.next_clause(mention.end - 1)
        if (
            Standing.ASSERTED is found[number] is found[number + 1]
            and following.start in then
            and answer.tokens[then[0]].folded in vocabulary.TURNS
            and regex.search(vocabulary.SEEMING, _span(answer, clause[0], mention.start))
        ):
            result[number] = Standing.ASIDE
    return result


def _goes_on(answer: ParsedAnswer, mention: Mention) -> bool:
    """Return whether a "no" or "yes" is explained without a comma: "No it isn't"."""
    words = answer.words(range(mention.start, min(mention.end + 1, len(answer.tokens))))
    return (
        bool(words)
        and mention.start == 0
        and words[0] in vocabulary.INTERJECTIONS
        and (words[-1] in vocabulary.PRONOUNS)
    )


def _has_verdict(answer: ParsedAnswer, mention: Mention, verdict: frozenset[str]) -> bool:
    """Return whether the next clause is nothing but a verdict: "red: wrong", "red (no)"."""
    words = answer.words(answer.next_clause(mention.end - 1))
    rest = answer.clause(mention.start)[-1] + 1 - mention.end
    if not words or rest > 1:
        return False
    if words[0] in ("not", "isn't") and words[1:] and words[1] in vocabulary.VERDICT_RIGHT:
        return verdict is vocabulary.VERDICT_WRONG
    return words[0] in verdict and len(words) == 1 and words[0] not in vocabulary.CROSSES


def is_called_right(answer: ParsedAnswer, mention: Mention) -> bool:
    """Return whether the next clause is nothing but a word such as "right"."""
    return _has_verdict(answer, mention, vocabulary.VERDICT_RIGHT)


def _before(answer: ParsedAnswer, start: int, end: int) -> int:
    """Return how many times the words before a mention deny it."""
    text = _span(answer, start, end)
    if _NOT_ONLY.search(text):
        return 2
    phrases = [*_NEGATING.finditer(text), *_ASSERTING.finditer(text)]
    first = answer.tokens[start].start if start < end else 0
    words = {
        token.folded
        for token in answer.tokens[start:end]
        if not any(match.start() <= token.start - first < match.end() for match in phrases)
    }
    negators = {word for word in words if _is_negator(word)} - vocabulary.AFTER_NEGATORS
    negators -= {"nor"} if "neither" in negators else set()
    unspaced = any(sign in text for sign in vocabulary.UNSPACED_NEGATORS)
    return len(_NEGATING.findall(text)) + len(negators) + unspaced


def _after(answer: ParsedAnswer, start: int, end: int, following: Mention | None) -> int:
    """Return how many times the words after a mention deny it, up to the next mention."""
    text = _span(answer, start, end)
    if any(
        regex.match(r"[\p{L}\p{M}]{0,2}" + regex.escape(sign), text.lstrip())
        for sign in vocabulary.UNSPACED_AFTER_NEGATORS
    ):
        return 1
    if following is not None:
        text, end = _without_next_denial(answer, text, start, end)
    text = _ASSERTING.sub(" ", text)
    phrases = len(_NEGATING.findall(text))
    spans = [match.span() for match in _ASSERTING.finditer(_span(answer, start, end))]
    first = answer.tokens[start].start if start < end else 0
    words = answer.words(
        [
            i
            for i in range(start, end)
            if not any(a <= answer.tokens[i].start - first < b for a, b in spans)
        ]
    )
    stops = vocabulary.REASONS | (vocabulary.OTHERS if answer.is_confirmed(start) else frozenset())
    words = words[: next((i for i, w in enumerate(words) if w in stops), None)]
    negators = {word for word in words if _is_negator(word) or word in vocabulary.WRONG}
    if _ASSERTING.search(_span(answer, start, end)):
        negators -= {"no", "none", "without", "nothing"}
    return len(negators) if not phrases else 0


def _without_next_denial(answer: ParsedAnswer, text: str, start: int, end: int) -> tuple[str, int]:
    """Leave out a denial that belongs to the next mention: "red not blue"."""
    last = end
    while last > start and answer.tokens[last - 1].folded in vocabulary.ARTICLES:
        last -= 1
    if last > start:
        word = answer.tokens[last - 1].folded
        if _is_negator(word) and word not in vocabulary.AFTER_NEGATORS:
            return _span(answer, start, last - 1), last - 1
    match = regex.search(rf"(?:{_NEGATING.pattern})\W*$", _span(answer, start, last), regex.I)
    if match:
        return "", start
    return text, end


def _is_negator(word: str) -> bool:
    return word in vocabulary.NEGATORS or word.endswith("n't")


def _weaker(answer: ParsedAnswer, mention: Mention, start: int, clause_start: int) -> Standing:
    """Return the standing of a mention that is not denied."""
    before = _span(answer, clause_start, mention.start)
    near = _span(answer, start, mention.start)
    if answer.tokens[mention.start].quantity and (
        _LIMIT.search(near) or regex.search(r"(?i)\b(?:between|from)\b", before)
    ):
        return Standing.ASIDE
    if _NOT_QUITE.search(near) or regex.search(r"(?i)\b(?:if|whether|unless)\b", before):
        return Standing.ASIDE
    sentence = answer.sentence(mention.start)
    if _BETWEEN.search(_span(answer, sentence[0], mention.start)):
        return Standing.ASIDE
    if answer.is_asked(mention.start) and answer.all_words != (
        answer.words(range(mention.start, mention.end))
    ):
        return Standing.ASIDE
    if not answer.is_concluded(mention.start) and (
        _hangs(answer, sentence[0], clause_start, before)
    ):
        return Standing.UNCLEAR
    words = answer.words(range(clause_start, mention.start))
    unspaced = any(sign in before for sign in vocabulary.UNSPACED_REASONS)
    if unspaced or any(word in vocabulary.REASONS for word in words):
        return Standing.REASON
    return Standing.ASSERTED


def _hangs(answer: ParsedAnswer, start: int, clause_start: int, before: str) -> bool:
    """Return whether an earlier clause of the sentence ends in "not": "It is not, I think, …"."""
    words: list[list[str]] = []
    end = clause_start
    while end > start and len(words) < _CLAUSES_BACK:
        clause = answer.clause(end - 1)
        if not _ASSERTING.search(_span(answer, clause[0], end)):
            words.append(answer.words(clause)[-1:])
        end = clause[0]
    dangling = any(
        word
        and _is_negator(word[0])
        and word[0] not in vocabulary.AFTER_NEGATORS
        and word[0] not in vocabulary.INTERJECTIONS | vocabulary.WRONG
        for word in words
    )
    return dangling and not regex.search(
        r"(?i)\b(?:is|it's|that's|are|es|est|ist|è|é|это)\b", before
    )


def _span(answer: ParsedAnswer, start: int, end: int) -> str:
    if end <= start:
        return ""
    return answer.text[answer.tokens[start].start : answer.tokens[end - 1].end]
