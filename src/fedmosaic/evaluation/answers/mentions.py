"""Find where an answer names options, by their words or by their letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import regex

from fedmosaic.evaluation.answers import vocabulary
from fedmosaic.evaluation.answers.tokens import Kind, TextToken, content, same_word, tokenise


@dataclass(frozen=True)
class Mention:
    """Hold a place where an answer names an option.

    Attributes:
        option: The option as listed; None for something that is no option, or one of several.
        start: Its first token.
        end: The token after its last one.
        safe: It can be nothing else. A mention that is not safe never makes an answer; it only
            stops another one from being read.
        letter: It is a letter that stands for the option.
    """

    option: str | None
    start: int
    end: int
    safe: bool = True
    letter: bool = False


@dataclass(frozen=True)
class Wording:
    """Hold one way to write an option: its tokens.

    Attributes:
        option: The option as listed.
        tokens: Its tokens.
    """

    option: str
    tokens: tuple[TextToken, ...]


def wordings(bodies: Sequence[tuple[str, str]]) -> list[Wording]:
    """Return the ways to write options, the longest first.

    Args:
        bodies: The options as listed, with their texts in one form and without their letters.
    """
    found = [Wording(option, tuple(content(tokenise(body)))) for option, body in bodies]
    for head in vocabulary.SET_HEADS:
        pattern = head + vocabulary.OF_THEM
        family = [pair for pair in bodies if regex.fullmatch(pattern + r"\W*", pair[1], regex.I)]
        if len({option for option, _ in family}) == 1:
            found.append(Wording(family[0][0], tuple(tokenise(head))))
    return sorted(found, key=lambda wording: -len(wording.tokens))


def find_words(text: str, tokens: Sequence[TextToken], ways: Sequence[Wording]) -> list[Mention]:
    """Return the mentions by words. At each place the longest option counts."""
    found: list[Mention] = []
    used: set[int] = set()
    for mention in _of_sets(text, tokens, ways):
        found.append(mention)
        used.update(range(mention.start, mention.end))
    for length in sorted({len(way.tokens) for way in ways}, reverse=True):
        group = [way for way in ways if len(way.tokens) == length and way.tokens]
        for start in range(len(tokens)):
            fits = [(way, end) for way in group if (end := _match(tokens, start, way.tokens))]
            if not fits or used & set(range(start, max(end for _, end in fits))):
                continue
            mention = _resolve(text, tokens, start, fits)
            found.append(mention)
            used.update(range(mention.start, mention.end))
    return sorted(found, key=lambda mention: mention.start)


def _of_sets(text: str, tokens: Sequence[TextToken], ways: Sequence[Wording]) -> list[Mention]:
    """Return the mentions of "none of the above" and "all of them", however they are worded."""
    found = []
    for head in vocabulary.SET_HEADS:
        pattern = head + vocabulary.OF_THEM
        family = {
            way.option
            for way in ways
            if regex.fullmatch(
                rf"{head}(?:{vocabulary.OF_THEM})?", " ".join(t.text for t in way.tokens), regex.I
            )
        }
        for match in regex.finditer(rf"\b{pattern}\b", text, regex.I):
            inside = [i for i, t in enumerate(tokens) if match.start() <= t.start < match.end()]
            option = next(iter(family)) if len(family) == 1 else None
            found.append(Mention(option, inside[0], inside[-1] + 1))
    return found


def _match(tokens: Sequence[TextToken], start: int, wanted: Sequence[TextToken]) -> int | None:
    """Return where the wanted tokens end if they stand at ``start``; hyphens do not count."""
    place = start
    for number, token in enumerate(wanted):
        while number and place < len(tokens) and tokens[place].text in _SKIPPED - {token.text}:
            place += 1
        if place == len(tokens) or not _same(tokens, place, token, number == len(wanted) - 1):
            return None
        place += 1
    return place


def _same(tokens: Sequence[TextToken], place: int, wanted: TextToken, last: bool) -> bool:
    token = tokens[place]
    if token.quantity and wanted.quantity:
        a, b = token.quantity, wanted.quantity
        following = tokens[place + 1] if place + 1 < len(tokens) else None
        if b.unit and not a.unit and following and following.kind in (Kind.WORD, Kind.UNSPACED):
            return False  # 3 boats are not 3 km
        return a.fits(b) or a.may_fit(b)
    if token.kind is not wanted.kind:
        return False
    if last and regex.fullmatch(r"\p{Hangul}+", wanted.text):
        rest = token.text.removeprefix(wanted.text)
        return rest != token.text and (not rest or rest in vocabulary.KOREAN_ENDINGS)
    return same_word(token.text, wanted.text)


def _resolve(
    text: str, tokens: Sequence[TextToken], start: int, fits: Sequence[tuple[Wording, int]]
) -> Mention:
    """Return the one option that is named at a place, or None as the option where several are."""
    end = max(end for _, end in fits)
    exact = [
        (way, stop)
        for way, stop in fits
        if [t.text for t in tokens[start:stop] if t.text != "-"] == [t.text for t in way.tokens]
    ]
    options = {way.option for way, _ in exact} or {way.option for way, _ in fits}
    doubtful = any(
        token.quantity and wanted.quantity and token.quantity.may_fit(wanted.quantity)
        for way, stop in fits
        for token, wanted in zip(tokens[start:stop], way.tokens, strict=False)
    )
    if len(options) > 1 or (doubtful and not exact):
        return Mention(None, start, end)
    return Mention(options.pop(), start, end, safe=_is_apart(text, tokens, start, end))


_SKIPPED = frozenset("-'\"()[]{}")
_GLUE = "-'/_^&|+*=@#~\\"


def _is_apart(text: str, tokens: Sequence[TextToken], start: int, end: int) -> bool:
    """Return whether nothing next to a mention makes it part of a longer word or a calculation."""
    first, last = tokens[start], tokens[end - 1]
    before, after = text[: first.start], text[last.end :]
    if first.kind is Kind.UNSPACED and not _may_border(before[-8:], vocabulary.UNSPACED_BEFORE, -1):
        return False
    if last.kind is Kind.UNSPACED and not _may_border(after[:8], vocabulary.UNSPACED_AFTER, 0):
        return False
    glued = regex.search(rf"[\p{{L}}\p{{M}}\p{{N}})][{regex.escape(_GLUE)}]\Z", before)
    if (glued and not _elided(before)) or regex.match(
        rf"[{regex.escape(_GLUE)}][\p{{L}}\p{{N}}(]", after
    ):
        return False
    if first.kind is Kind.NUMBER:
        if regex.search(r"[-+×*/÷<>≤≥±√^–] ?\Z", before):
            return False
        if regex.match(
            r"(?i)\+| or (?:over|under|so|higher|lower|above|below)\b"
            r"| (?:or )?(?:more|less|fewer)\b| (?:times|plus|minus|divided by|out of)\b",
            after,
        ):
            return False
        if regex.match(r" ?(?:[-+×*/÷^=<>–]|x\b) ?[\d(]|\s?[²³]", after):
            return False
    return True


def _elided(before: str) -> bool:
    return (
        regex.search(r"(?i)\b(?:[ldjcnmst]|qu|dell|all|nell|sull|dall|un)'\Z", before) is not None
    )


def _may_border(neighbour: str, allowed: Sequence[str], at: int) -> bool:
    """Return whether the text next to a mention is no part of the same word."""
    if not neighbour or not regex.match(r"[\p{L}\p{M}\p{N}]", neighbour[at]):
        return True
    if regex.match(r"[\p{Latin}\d]", neighbour[at]):
        return True
    return neighbour.endswith(tuple(allowed)) if at else neighbour.startswith(tuple(allowed))


def unsafe_numbers(tokens: Sequence[TextToken], mentions: Sequence[Mention]) -> list[Mention]:
    """Return mentions in which a number stands neighbour other numbers that are no options.

    "The 3 men caught 7 fish" does not choose 3.
    """
    inside = {place for mention in mentions for place in range(mention.start, mention.end)}
    others = [i for i, t in enumerate(tokens) if t.kind is Kind.NUMBER and i not in inside]
    if not others:
        return list(mentions)
    return [
        replace(mention, safe=False)
        if mention.end - mention.start == 1
        and tokens[mention.start].kind is Kind.NUMBER
        and tokens[mention.start - 1].text != "="
        else mention
        for mention in mentions
    ]
