"""Find which option an answer names, and where in the answer it does so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from fedmosaic.data.options.choices import OptionList, OptionsError, shortened
from fedmosaic.data.options.labels import plain_label
from fedmosaic.data.options.match import folded, match_option

_OPEN = r"""[\s(（\[【{<"'“‘`*_#]*"""
_CLOSE = r"""[\s)）\]】}>.．。:：、,;"'”’`*_]*"""
_SHAPE = r"[^\W_]{1,4}|[Ⓐ-ⓩ]"
_IN_MARKS = re.compile(rf"^{_OPEN}(?P<label>{_SHAPE}){_CLOSE}$")
_LABEL_FIRST = re.compile(
    rf"^{_OPEN}(?P<label>{_SHAPE})(?P<between>{_CLOSE}(?:[-–—]\s+)?)(?P<rest>\S.*)$", re.S
)
_LEAD = (
    r"(?:(?<![A-Za-z])(?:answers?|options?|choices?|letter|antwort|respuesta|réponse|risposta)\b"
    r"|答案|选项|選項|選択肢|正解|答え|정답|답)"
    r"(?:\s*(?:(?:is|would\s+be|should\s+be|ist|es|est|è)\b|应该是|應該是|是|为|為|は|은|는))?"
    r"""[\s:：(（\[【{"'“‘`*_]*"""
)
# After a letter in running text. "A" and "I" are words, too: "the answer is A heron".
_ENDS = (
    r"""(?=[\s)）\]】}"'”’`*_]*(?:$|[.．。,，;；:：!！)）\]】]|\n|\s(?:because|since|as|is|,)\b))"""
)
_LED = re.compile(rf"(?i:{_LEAD})(?P<label>{_SHAPE})(?![^\W_])(?:{_ENDS}|(?<=[B-HJ-Z]))")
_BRACKETED = re.compile(rf"[(（\[【]\s*(?P<label>{_SHAPE})\s*[)）\]】]")
_CAPITAL = re.compile(rf"(?<![\w'’.])(?P<label>[B-HJ-Z]|[AI]{_ENDS}|[Ⓐ-ⓩ①-⑳])(?![\w'’])")
_REASON = re.compile(r"^(?:because|since|as|is|,)\b", re.I)
_WORDS = re.compile(r"[\s,，、/&+;；和]+(?:(?:and|or|und|et|y)\s+)?")
_DENIED = re.compile(
    r"(?:\b(?:not|never|neither|nor|no)|n['’]t)\s+(?:an?\s+|the\s+)?$|不是\s*$", re.I
)
_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)\s+(?=\S)|(?<=[。！？])\s*(?=\S)|\n+")
_MOST_WORDS = 25  # of a sentence that is read as naming an option
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")

Form = Literal["text", "label", "both"]


@dataclass(frozen=True)
class Named:
    """Hold where an answer names an option.

    Attributes:
        index: place of the option.
        form: whether by its text, by its label, or by both, the label first.
        start: where in the answer the name begins; with a label and a text, before the label's
            bracket.
        end: where it ends.
        label: where the label stands, for the form ``"both"``.
        text: where the option's text begins, for the form ``"both"``.
    """

    index: int
    form: Form
    start: int
    end: int
    label: tuple[int, int] = (0, 0)
    text: int = 0


def whole_answer(answer: str, listing: OptionList, prefer_label: bool = False) -> Named | None:
    """Return the option that the whole answer is: its text, its label, or both.

    Args:
        answer: the answer.
        listing: the options.
        prefer_label: the label counts where the answer is the text of one option and the label
            of another one.

    Raises:
        OptionsError: text and label of different options fit, or several texts.
    """
    by_label = _only_label(answer, listing.labels)
    try:
        index = match_option(answer, listing.texts)
    except OptionsError:
        if by_label is None:
            raise
        return by_label
    if index is None:
        return by_label or _both(answer, listing)
    if by_label is not None and by_label.index != index:
        if prefer_label:
            return by_label
        raise OptionsError(
            "answer",
            f"{shortened(answer)} is the label of {shortened(listing.texts[by_label.index])} and "
            f"the text of another option; write {by_label_and_text(listing, by_label.index)} or "
            f"{by_label_and_text(listing, index)}",
        )
    start = len(answer) - len(answer.lstrip())
    return Named(index, "text", start, start + _length_of(answer[start:], listing.texts[index]))


def sentence(answer: str, listing: OptionList) -> Named | None:
    """Return the one option that a sentence names: "The answer is B.", "It is the Danube."."""
    by_text = _text_in_sentence(answer, listing.texts)
    by_label = _label_in_text(answer, listing) if listing.labels else None
    if by_label is None:
        return by_text
    if by_text is not None and by_text.start <= by_label.start and by_label.end <= by_text.end:
        return by_text  # the letter is one of the option's: "It is A. thaliana."
    return _with_text(answer, by_label, listing)


def by_label_and_text(listing: OptionList, index: int) -> str:
    """Return an option quoted with its label: ``'B. carp'``."""
    return shortened(f"{listing.labels[index]}. {listing.texts[index]}")


def find_label(label: str, labels: Sequence[str]) -> int | None:
    """Return the place of a label, whatever its form; a small letter may stand for a capital."""
    for same in (str, plain_label, lambda text: plain_label(text).casefold()):
        fitting = [index for index, other in enumerate(labels) if same(other) == same(label)]
        if fitting:
            return fitting[0] if len(fitting) == 1 else None
    return None


def _named_label(match: re.Match[str], labels: Sequence[str]) -> Named | None:
    index = find_label(match["label"], labels)
    if index is None:
        return None
    return Named(index, "label", *match.span("label"))


def _only_label(answer: str, labels: Sequence[str]) -> Named | None:
    match = _IN_MARKS.match(answer) if labels else None
    return _named_label(match, labels) if match else None


def _both(answer: str, listing: OptionList) -> Named | None:
    """Return the option of an answer such as "(C) the Amazon", if label and text agree."""
    match = _LABEL_FIRST.match(answer) if listing.labels else None
    index = find_label(match["label"], listing.labels) if match else None
    if match is None or index is None:
        return None
    rest, start = match["rest"], match.start("rest")
    if folded(rest) != folded(listing.texts[index]):
        other = match_option(rest, listing.texts) if match["between"].strip() else None
        if other is not None:
            raise OptionsError(
                "answer",
                f"{shortened(answer)} has the label of {shortened(listing.texts[index])} and the "
                f"text of {by_label_and_text(listing, other)}; write one of the two",
            )
        return None
    end = start + _length_of(rest, listing.texts[index])
    first = len(answer) - len(answer.lstrip())
    return Named(index, "both", first, end, match.span("label"), start)


def _length_of(written: str, option: str) -> int:
    """Return how much of a written option belongs to it, without a full stop that it lacks."""
    stripped = written.rstrip()
    if stripped[-1:] in ".。" and option[-1:] not in ".。":
        return len(stripped) - 1
    return len(stripped)


def _label_in_text(answer: str, listing: OptionList) -> Named | None:
    """Return the one label in the most certain form that a text has."""
    words = _WORDS.split(answer.strip(" .。"))
    several = [find_label(word.strip("()（）[]【】*."), listing.labels) for word in words]
    if None not in several and len(set(several)) > 1:
        return None  # "A and B"
    opening = _LABEL_FIRST.match(answer)
    if opening and (_strong(opening["between"]) or _REASON.match(opening["rest"])):
        named = _named_label(opening, listing.labels)
        if named is not None and not _LED.search(answer):
            return named
    for form in (_LED, _BRACKETED, _CAPITAL):
        found = [
            named
            for match in form.finditer(answer)
            if not _DENIED.search(answer[: match.start("label")].rstrip("(（[【 ") + " ")
            and (named := _named_label(match, listing.labels)) is not None
        ]
        if found:
            return found[-1] if len({named.index for named in found}) == 1 else None
    return None


def _strong(between: str) -> bool:
    """Return whether marks or a line end part a label from what follows: "B. Because …"."""
    return bool(re.search(r"[)）\]】.．。:：、,;\n]", between))


def _with_text(answer: str, named: Named, listing: OptionList) -> Named:
    """Extend a label by its option's text, if that follows: "The answer is (B) the Danube."."""
    after = re.match(_CLOSE + r"(?:[-–—]\s+)?", answer[named.end :])
    start = named.end + (after.end() if after else 0)
    pattern = _pattern(listing.texts[named.index])
    match = re.compile(pattern, re.I).match(answer, start)
    if match is None or start == named.end:
        return named
    head = re.search(r"[(（\[【*_]*$", answer[: named.start])
    first = head.start() if head else named.start
    return Named(named.index, "both", first, match.end(), (named.start, named.end), start)


def _text_in_sentence(answer: str, texts: Sequence[str]) -> Named | None:
    """Return the option whose text one sentence names, or that is the first sentence."""
    sentences = _SENTENCE_END.split(answer.strip())
    first = sentences[0]
    if len(sentences) > 1:
        index = match_option(first, texts)
        if index is not None:
            start = answer.index(first)
            return Named(index, "text", start, start + _length_of(first, texts[index]))
        led = [
            named
            for named in _occurrences(answer, texts)
            if re.search(rf"(?i){_LEAD}(?:the\s+|an?\s+)?$", answer[: named.start])
        ]
        return led[-1] if len({named.index for named in led}) == 1 else None
    if len(first.split()) > _MOST_WORDS:
        return None
    found = list(_occurrences(answer, texts))
    return found[-1] if len({named.index for named in found}) == 1 else None


def _occurrences(answer: str, texts: Sequence[str]) -> Iterator[Named]:
    """Yield the options in a text as whole words, undenied; at each place the longest counts.

    Capitals count where options differ in nothing else.
    """
    small = {text.casefold() for text in texts}
    flags = re.I if len(small) == len(set(texts)) else 0
    longest_first = sorted(set(texts), key=lambda text: (-len(text), text))
    pattern = "|".join(f"({_pattern(text)})" for text in longest_first)
    for match in re.finditer(pattern, answer, flags):
        if not _DENIED.search(answer[: match.start()]):
            text = longest_first[(match.lastindex or 1) - 1]
            yield Named(texts.index(text), "text", *match.span())


def _pattern(text: str) -> str:
    """Return a pattern for an option that does not match inside a longer word or number."""
    words = r"\s+".join(re.escape(word) for word in text.split())
    before = after = ""
    if re.match(r"\w", text[:1]) and not _UNSPACED.match(text[0]):
        before = r"(?<!\w)(?<!\d[.,:/])(?<!\w[-'’])" + (r"(?<![-+])" if text[0].isdigit() else "")
    if re.match(r"\w", text[-1:]) and not _UNSPACED.match(text[-1]):
        after = r"(?!\w)(?![.,:/]\d)(?![-'’]\w)"
    return before + words + after
