"""Decide which of the options that an answer mentions it chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import regex

from fedmosaic.evaluation.answers import vocabulary
from fedmosaic.evaluation.answers.denial import Standing, is_called_right, standings
from fedmosaic.evaluation.answers.letters import Labels, find_letters
from fedmosaic.evaluation.answers.mentions import Mention, find_words, unsafe_numbers, wordings
from fedmosaic.evaluation.answers.parsed import ParsedAnswer

_CORRECTION = regex.compile(
    rf"(?<![\p{{L}}\p{{M}}])(?:{'|'.join(vocabulary.CORRECTIONS)})(?![\p{{L}}\p{{M}}])"
    r"|(?<=[.!?…\n]\s*)(?:actually|hmm)\b|(?<=[.,:;!?…–—-]\s*)no(?=\s*[,:;.!–—-])",
    regex.I,
)


def choose(text: str, labels: Labels) -> str | None:
    """Return the option that an answer chooses by what it says, or None.

    1. After a correction ("wait, no") only what follows it counts.
    2. An option that is said to be the answer is chosen: "the answer is red", "red is correct",
       a sentence of its own. Two such options are none.
    3. Otherwise the only option that is mentioned undenied is chosen.

    Args:
        text: The answer, in the form of :func:`clean.one_form`.
        labels: The options and their letters.
    """
    answer = ParsedAnswer(text)
    mentions = find_mentions(answer, labels)
    if (tail := _after_correction(answer, mentions)) is not None:
        return choose(tail, labels)
    standing = standings(answer, mentions)
    denied = {m.option for m, s in zip(mentions, standing, strict=True) if s is Standing.DENIED}
    strong = _answers(answer, mentions, standing)
    if strong:
        named = [number for number in strong if _is_named(answer, mentions[number])]
        # "red … blue … The answer is green": but not "red. The answer is green".
        if named and not any(mentions[number].start == 0 for number in strong):
            strong = named
        options = {mentions[number].option for number in strong}
        if len(options) > 1 or options & denied or None in options:
            return None
        return None if _is_contradicted(answer, mentions, standing, strong) else options.pop()
    return _only_one(mentions, standing, denied)


def find_mentions(answer: ParsedAnswer, labels: Labels) -> list[Mention]:
    """Return the mentions of options by words and letters, in sequence."""
    ways = wordings([(option, body) for option, body in labels.bodies])
    singles = {body for _, body in labels.bodies if len(body) == 1 and labels.shown}
    words = [
        mention
        for mention in find_words(answer.text, answer.tokens, ways)
        if not _is_a_letter(answer, mention, singles) and _stands(answer, mention)
    ]
    words = unsafe_numbers(answer.tokens, words)
    words = [_or_a_label(answer, mention, labels) for mention in words]
    letters = find_letters(answer, labels, words)
    return sorted([*words, *letters], key=lambda mention: mention.start)


def _or_a_label(answer: ParsedAnswer, mention: Mention, labels: Labels) -> Mention:
    """Leave the option open where a number is an option and the label of another one."""
    token = answer.tokens[mention.start]
    if mention.end - mention.start > 1 or not token.quantity or not labels.shown:
        return mention
    return (
        mention
        if labels.option(token.text) in (None, mention.option)
        else replace(mention, option=None)
    )


def _is_a_letter(answer: ParsedAnswer, mention: Mention, singles: set[str]) -> bool:
    text = answer.tokens[mention.start].text
    is_single = mention.end - mention.start == 1 and regex.fullmatch(r"\p{L}", text) is not None
    return is_single and text.upper() in {single.upper() for single in singles}


def _stands(answer: ParsedAnswer, mention: Mention) -> bool:
    """Return whether a word such as "no" or "is" stands as an answer of its own."""
    words = answer.words(range(mention.start, mention.end))
    if len(words) != 1 or words[0] not in vocabulary.INTERJECTIONS:
        return True
    if words[0] == "one" and _counts(answer, mention):
        return True
    if words[0] in vocabulary.SET_HEADS and answer.is_confirmed(mention.end):
        return True
    if regex.fullmatch(r"(?i)no\. ?\d+\.?", answer.text):
        return False  # number five
    if answer.is_sole(mention.start, words[0], mention.end) or answer.is_led(mention.start):
        return True
    following = answer.tokens[mention.end :]
    return (
        mention.start == 0
        and bool(following)
        and (
            following[0].folded in vocabulary.PRONOUNS | vocabulary.REASONS
            or (
                following[0].folded in vocabulary.JOINING
                and following[1:]
                and following[1].folded in vocabulary.PRONOUNS
            )
            or (answer.tokens[0].kind.value == "unspaced" and following[0].text in "的了呀啊吧呢")
        )
    )


def _counts(answer: ParsedAnswer, mention: Mention) -> bool:
    """Return whether "one" is a number: "there is one boat", not "the one on the left"."""
    before = answer.words(range(max(0, mention.start - 2), mention.start))
    after = answer.words(range(mention.end, min(mention.end + 1, len(answer.tokens))))
    counted = before[-1:] in (["only"], ["just"], ["exactly"], ["there's"]) or before == [
        "there",
        "is",
    ]
    return counted and not set(after) & {"of", "on", "in", "that", "who", "with", "which"}


def _after_correction(answer: ParsedAnswer, mentions: Sequence[Mention]) -> str | None:
    """Return what follows the last correction after a mention, or None without one."""
    inside = {place for mention in mentions for place in range(mention.start, mention.end)}
    taken = [answer.tokens[place].start for place in inside]
    found = [
        match
        for match in _CORRECTION.finditer(answer.text)
        if match.start() not in taken
        and any(answer.tokens[m.end - 1].end <= match.start() for m in mentions)
    ]
    return answer.text[found[-1].end() :].lstrip(" ,.:;!–—-") if found else None


def _answers(
    answer: ParsedAnswer, mentions: Sequence[Mention], standing: Sequence[Standing]
) -> list[int]:
    """Return the numbers of the mentions that are said to be the answer."""
    return [
        number
        for number, mention in enumerate(mentions)
        if standing[number] is Standing.ASSERTED
        and mention.safe
        and (_is_named(answer, mention) or _stands_by_itself(answer, mention))
    ]


def _is_named(answer: ParsedAnswer, mention: Mention) -> bool:
    """Return whether an answer calls an option the answer, right, or the result."""
    if answer.is_led(mention.start) or answer.is_confirmed(mention.end):
        return True
    if mention.start and answer.tokens[mention.start - 1].text == "=":
        return True
    return (
        is_called_right(answer, mention)
        or _is_added(answer, mention)
        or _is_concluded(answer, mention)
    )


def _is_concluded(answer: ParsedAnswer, mention: Mention) -> bool:
    """Return whether an answer comes to an option at the end of a sentence: "…, so red."."""
    last = answer.tokens[mention.end - 1 :][1:2]
    if last and (last[0].text not in ".!。\n"):
        return False
    return answer.is_concluded(mention.start)


def _is_added(answer: ParsedAnswer, mention: Mention) -> bool:
    """Return whether an answer adds an option to another one: "B is also correct", "B too"."""
    words = answer.words(answer.clause(mention.start))
    return any(word in vocabulary.ALSO for word in words) or words[-1:] == ["too"]


def _stands_by_itself(answer: ParsedAnswer, mention: Mention) -> bool:
    """Return whether a sentence or a line says nothing but an option."""
    sentence = answer.sentence(mention.start)
    rest = [i for i in sentence if not mention.start <= i < mention.end]
    inner = [answer.tokens[i].text for i in rest if answer.tokens[i].text in ",、，/"]
    if not inner and all(word in vocabulary.OPENERS | {"the"} for word in answer.words(rest)):
        return True
    after = answer.tokens[mention.end : mention.end + 1]
    first = mention.start - (answer.tokens[mention.start - 1].text in "([") if mention.start else 0
    starts_line = first == 0 or answer.tokens[first - 1].text == "\n"
    return mention.letter and starts_line and bool(after) and after[0].text in ").:-–—]"


def _is_contradicted(
    answer: ParsedAnswer,
    mentions: Sequence[Mention],
    standing: Sequence[Standing],
    strong: Sequence[int],
) -> bool:
    """Return whether another option is joined to the answer: "B, the Nile", "red or blue"."""
    option = mentions[strong[0]].option
    live = [
        number
        for number in range(len(mentions))
        if standing[number] in (Standing.ASSERTED, Standing.UNCLEAR)
    ]
    others = {mentions[number].option for number in live} - {option}
    if others and any(_is_added(answer, mentions[number]) for number in strong):
        return True
    for a, b in pairwise(live):
        first, second = mentions[a], mentions[b]
        if (a not in strong and b not in strong) or first.option == second.option == option:
            continue
        between = answer.tokens[first.end : second.start]
        ends = ".)]:-–—" if first.letter else ""
        if all(
            token.text in ",:()[]-–—\"'/、，：" + ends
            or token.folded in vocabulary.JOINING | vocabulary.BETWEEN_JOINED
            or token.text in vocabulary.UNSPACED_JOINING
            for token in between
        ):
            return True
    return False


def _only_one(
    mentions: Sequence[Mention], standing: Sequence[Standing], denied: set[str | None]
) -> str | None:
    """Return the only option that is mentioned undenied, if one of its mentions is safe."""
    live = [
        mention
        for mention, how in zip(mentions, standing, strict=True)
        if how in (Standing.ASSERTED, Standing.UNCLEAR)
    ]
    if not live:
        live = [m for m, how in zip(mentions, standing, strict=True) if how is Standing.REASON]
        safe = {mention.option for mention in live if mention.safe}
    else:
        safe = {
            mention.option
            for mention, how in zip(mentions, standing, strict=True)
            if mention.safe and how is Standing.ASSERTED
        }
    options = {mention.option for mention in live}
    return (
        next(iter(safe)) if len(options) == 1 and options == safe and not options & denied else None
    )
