"""Find letters that stand for options, and tell them from words of one letter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import regex

from fedmosaic.evaluation.answers import vocabulary
from fedmosaic.evaluation.answers.clean import one_form, without_all_marks
from fedmosaic.evaluation.answers.mentions import Mention
from fedmosaic.evaluation.answers.parsed import ParsedAnswer
from fedmosaic.evaluation.answers.tokens import Kind, TextToken
from fedmosaic.evaluation.scripts import UNSPACED

# A syllable of Hangul is a word, save the seven by which lists are lettered.
_SINGLE = regex.compile(
    rf"(?!{UNSPACED})(?![\p{{Hangul}}--[가나다라마바사]])\p{{L}}\p{{M}}*", regex.V1
)
_CARRIED = regex.compile(
    r"[(\[]?(?P<label>\p{L}|\d{1,2})(?:[)\]][.:]?|[.:、,．)](?!\d)|(?= - ))\s*-?\s*(?P<body>\S.*)",
    regex.S,
)
_WORDS_OF_ONE_LETTER = "AI"


@dataclass(frozen=True)
class Labels:
    """Hold which letter stands for which option.

    Attributes:
        by_letter: Options by letter; None where the letter is not safe to read.
        bodies: The options as listed, with their texts in one form and without their letters.
        shown: The options are letters or carry them. Else letters stand for places.
    """

    by_letter: Mapping[str, str | None]
    bodies: tuple[tuple[str, str], ...]
    shown: bool

    def option(self, letter: str) -> str | None:
        """Return the option of a letter in either case."""
        return self.by_letter.get(letter, self.by_letter.get(letter.upper()))


def labels_of(options: Sequence[str]) -> Labels:
    """Find the letters of options: letters as options, letters that they carry, or their places.

    A place has no letter where another option contains that letter as a word: "vitamin A".
    """
    forms = [one_form(option) for option in options]
    bodies = tuple(zip(options, forms, strict=True))
    bare = [without_all_marks(form) for form in forms]
    singles = {
        letter: option
        for letter, option in reversed(list(zip(bare, options, strict=True)))
        if _SINGLE.fullmatch(letter)
    }
    if singles:
        upper = {letter.upper(): option for letter, option in singles.items()}
        return Labels((upper if len(upper) == len(singles) else {}) | singles, bodies, True)
    carried = [_CARRIED.fullmatch(form) for form in forms]
    labels = [match["label"] for match in carried if match]
    if len(labels) == len(options) > 1 and len(set(labels)) == len(labels):
        by_letter = {label.upper(): option for label, option in zip(labels, options, strict=True)}
        found = [(option, m["body"]) for option, m in zip(options, carried, strict=True) if m]
        return Labels(by_letter, tuple(found), True)
    places = {}
    for place, option in enumerate(options[:26]):
        letter = chr(ord("A") + place)
        others = [form for other, form in bodies if other != option]
        taken = any(regex.search(rf"(?<!\p{{L}}){letter}(?!\p{{L}})", other) for other in others)
        places[letter] = None if taken else option
    return Labels(places, bodies, False)


def find_letters(answer: ParsedAnswer, labels: Labels, words: Sequence[Mention]) -> list[Mention]:
    """Return the mentions of options by letter; letters that no option has mention None.

    Args:
        answer: The answer.
        labels: The letters of the options.
        words: Mentions by words; a letter inside one is none.
    """
    used = {place for mention in words for place in range(mention.start, mention.end)}
    found = []
    for place, token in enumerate(answer.tokens):
        if place in used or not _may_be_a_letter(answer, place, labels):
            continue
        option = labels.option(token.text)
        if _stands_for_an_option(answer, place, labels, words):
            found.append(Mention(option, place, place + 1, letter=True))
        elif token.text.isupper() and (
            token.text not in _WORDS_OF_ONE_LETTER or _is_listed(answer, place, words)
        ):
            found.append(Mention(option, place, place + 1, safe=False, letter=True))
    return found


def _may_be_a_letter(answer: ParsedAnswer, place: int, labels: Labels) -> bool:
    token = answer.tokens[place]
    known = token.text in labels.by_letter or token.text.upper() in labels.by_letter
    if token.kind is Kind.NUMBER:  # options may carry numbers: "2. dog"
        return known and (_opens_with_label(answer, place) or answer.is_whole(place))
    if token.kind is not Kind.WORD or not _SINGLE.fullmatch(token.text):
        return False
    return known or regex.fullmatch("[A-Za-z]", token.text) is not None


def _stands_for_an_option(
    answer: ParsedAnswer, place: int, labels: Labels, words: Sequence[Mention]
) -> bool:
    """Return whether a letter can be nothing but the name of an option."""
    tokens, token = answer.tokens, answer.tokens[place]
    if answer.is_glued(place):
        return False
    if _opens_with_label(answer, place):
        return True
    if answer.is_enclosed(place) or answer.is_whole(place) or _is_of_letters(answer):
        return True
    ends = _ends_well(answer, place)
    if ends and answer.is_concluded(place) and token.text.isupper():
        return True
    if answer.is_led(place) and (ends or token.text not in "AaIi"):
        return token.text.isupper() or (ends and not (token.text == "a" and answer.is_last(place)))
    if not token.text.isupper():
        return False
    if answer.is_sole(place, token.text):
        return True
    starts = answer.starts_clause(place)
    named = answer.next_word(place)
    if starts and any(mention.start == named for mention in words):
        # "A red car" has an article, unless something parts the letter from the word.
        return token.text != "A" or named > place + 1 or tokens[named].text[:1].isupper()
    if starts and _is_followed(answer, place, labels.shown):
        return True
    before = tokens[place - 1].folded if place else ""
    weak = vocabulary.LETTER_LEADS if labels.shown else vocabulary.CHOOSING
    if ends and before in weak | vocabulary.TURNS | vocabulary.NEGATORS:
        return True
    if ends and labels.shown and answer.text[: token.start].rstrip().endswith(("是", "为", "為")):
        return True
    return answer.text[token.end :].lstrip().startswith(vocabulary.LETTER_ENDINGS)


def _opens_with_label(answer: ParsedAnswer, place: int) -> bool:
    """Return whether an answer starts with a letter or number in front of something: b) or 2."""
    following = answer.tokens[place + 1 : place + 3]
    return (
        place == 0
        and len(following) == 2
        and following[0].text in ").:"
        and (following[0].start == answer.tokens[place].end)
    )


def _is_of_letters(answer: ParsedAnswer) -> bool:
    """Return whether an answer is nothing but single letters: A A B."""
    return all(_SINGLE.fullmatch(word) for word in answer.all_words)


def _ends_well(answer: ParsedAnswer, place: int) -> bool:
    """Return whether the clause ends after a letter, or goes on as it does after a name."""
    following = answer.tokens[place + 1] if place + 1 < len(answer.tokens) else None
    if following is None or following.kind is Kind.MARK or following.kind is Kind.UNSPACED:
        return True
    words = vocabulary.REASONS | vocabulary.TURNS | vocabulary.NEGATORS | vocabulary.JOINING
    words |= vocabulary.AFTER_A_NAME
    return following.folded in words or answer.is_confirmed(place + 1)


def _is_followed(answer: ParsedAnswer, place: int, shown: bool) -> bool:
    """Return whether a clause goes on after its first word, a letter, as it does after a name."""
    following = answer.tokens[place + 1] if place + 1 < len(answer.tokens) else None
    if following is None:
        return True
    if following.folded in vocabulary.AFTER_A_NAME or answer.is_confirmed(place + 1):
        return True
    return shown and following.folded in ("is", "was") and answer.tokens[place].text != "I"


def _is_listed(answer: ParsedAnswer, place: int, words: Sequence[Mention]) -> bool:
    """Return whether a letter is joined with another capital: A and B, A/B, A or maybe C."""
    tokens: Sequence[TextToken] = answer.tokens
    following = answer.words(range(place + 1, min(place + 2, len(tokens))))
    if tokens[place].text == "I" and following and not vocabulary.JOINING & set(following):
        return False  # B, I think
    for step in (1, -1):
        near = [tokens[i].text for i in (place + step, place + 2 * step, place + 3 * step)
                if 0 <= i < len(tokens)]  # fmt: skip
        joined = near and (near[0].casefold() in vocabulary.JOINING or near[0] in ",、和与とや")
        if joined and near[0] not in ",、" and any(m.start == place + 2 * step for m in words):
            return True
        if joined and any(regex.fullmatch("[A-Z]", text) for text in near[1:]):
            return True
    return False
