"""Find the lists of options in a prompt, with what speaks for them being options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedmosaic.data.options.choices import OptionList
from fedmosaic.data.options.labels import LabelRun, label_runs
from fedmosaic.data.options.lists import split_list
from fedmosaic.data.options.match import exact
from fedmosaic.data.options.words import (
    BULLET,
    HEADER,
    INSTRUCTION_LINE,
    INSTRUCTION_VERB,
    LABELS_ASKED,
    QUESTION_AFTER,
    TAIL,
)

_BRACKETS = {"[": "]", "{": "}", "(": ")", "（": "）", "【": "】", "「": "」"}
_QUESTION_BEFORE = re.compile(
    r"[?？]|\b(?:which|what|who|choose|select|pick|best|correct|answer|following)\b|哪|什么|选|どれ|何",
    re.I,
)
_SENTENCE_BEFORE = re.compile(r"(?:^|[?？.。:：!！…\n>)\]）】\"”])[\s*_(（\[]*$")
_SEPARATORS = [re.compile(rf"\s*{marks}$") for marks in (r"\|", "[;；]", "[,，、]", "[/／]")]
_LAST_AND = re.compile(r"(?:(?<=[,，、;；|])\s*|\s+)(?:or|and|或|または)$", re.I)
_BULLETED = re.compile(r"[?？:：]\s*\n((?:[^\S\n]*[-•·▪◦‣●○*]\s+\S[^\n]*(?:\n|$)){2,})")
_MARKS = re.compile(r"(?:\s*<image>)+$")


@dataclass(frozen=True)
class Offer:
    """Hold one list of a prompt.

    Attributes:
        start: where it begins in the prompt.
        listings: the ways to read it, the likeliest first.
        clear: it can only be meant as options, even if the answer is none of them.
        joins: pieces that together spell the answer are one option.
    """

    start: int
    listings: tuple[OptionList, ...]
    clear: bool
    joins: bool = False


def offers(prompt: str) -> Iterator[Offer]:
    """Yield the lists of a prompt that are options, or may be."""
    headers = list(HEADER.finditer(prompt))
    runs = [run for run in label_runs(prompt) if all(_texts(prompt, run))]
    covered: list[tuple[int, int]] = []
    for header in headers:
        bracket = _bracketed(prompt, header.end())
        if bracket:
            covered.append((header.start(), header.end() + len(bracket[0]) + 1))
            listings = tuple(reading for inside in bracket for reading in _read(inside, True))
            if listings:
                yield Offer(header.start(), listings, clear=True, joins=True)
    for run in runs:
        if any(start <= run.start < end for start, end in covered):
            continue
        headed = any(not prompt[h.end() : run.start].strip(" \t\n*_") for h in headers)
        texts = tuple(_texts(prompt, run))
        if headed or _may_be_options(prompt, run, texts):
            labels = tuple(token.label for token in run.tokens)
            clear = headed or _clear(prompt, run, texts)
            yield Offer(run.start, (OptionList(texts, labels),), clear)
            covered.append((run.start, run.tokens[-1].content))
    for header in headers:
        inside = _below(prompt, header.end())
        taken = any(header.end() <= start <= header.end() + 3 for start, _ in covered)
        if inside and not taken and not any(a <= header.start() < b for a, b in covered):
            listings = tuple(_read(inside, False))
            if listings:
                clear = bool(header["noun"] or header["noun_unspaced"])
                yield Offer(header.start(), listings, clear, joins=True)
    yield from _inline(prompt)
    yield from _bullets(prompt)


def asks_for_labels(prompt: str) -> bool:
    """Return whether a prompt asks for the letter or the number of an option."""
    return bool(LABELS_ASKED.search(prompt))


def read_region(inside: str, bracketed: bool = False) -> tuple[OptionList, ...]:
    """Return the ways to read a text that is a list of options, the likeliest first."""
    return tuple(_read(inside, bracketed))


def _read(inside: str, bracketed: bool) -> Iterator[OptionList]:
    for run in label_runs(inside):
        texts = tuple(_texts(inside, run))
        if not inside[: run.start].strip(" \t\n'\"") and all(texts):
            yield OptionList(texts, tuple(token.label for token in run.tokens))
            break
    if not bracketed:
        lines = _lines(inside)
        if len(lines) > 1:
            yield OptionList(tuple(lines))
        inside = _without_tail(lines[0] if lines else inside)
    for texts in split_list(inside, bracketed):
        yield OptionList(texts)


def _texts(text: str, run: LabelRun) -> list[str]:
    """Return the text of each option of a run, without the separators between them."""
    starts = [token.start for token in run.tokens[1:]]
    last = run.tokens[-1]
    ends = [*starts, _end_of_last(text, last.content, last.start, run.lines)]
    pieces = [
        text[token.content : end].strip() for token, end in zip(run.tokens, ends, strict=True)
    ]
    pieces[-1] = _without_tail(pieces[-1])
    pieces[-2] = _LAST_AND.sub("", pieces[-2])
    for separator in _SEPARATORS:
        if all(separator.search(piece) for piece in pieces[:-1]):
            pieces = [separator.sub("", piece) for piece in pieces]
    if not any(piece.endswith((".", "。")) for piece in pieces[:-1]):
        pieces[-1] = pieces[-1].removesuffix(".").removesuffix("。") or pieces[-1]
    return [exact(piece.strip("*") if piece.endswith("**") else piece) for piece in pieces]


def _end_of_last(text: str, content: int, start: int, lines: bool) -> int:
    """Return where the last option ends: its line, and the lines below that are indented more."""
    if not text[content:].split("\n", 1)[0].strip():  # its text is on the next line
        content = len(text) - len(text[content:].lstrip())
    end = text.find("\n", content)
    if end < 0:
        return len(text)
    line = text[text.rfind("\n", 0, start) + 1 : content]
    indent = len(line) - len(line.lstrip())
    while lines:
        following = text[end + 1 :].split("\n", 1)[0]
        if not following.strip() or len(following) - len(following.lstrip()) <= indent:
            break
        if INSTRUCTION_LINE.match(following):
            break
        end += 1 + len(following)
        if end >= len(text):
            break
    return end


def _without_tail(text: str) -> str:
    """Return a last option without the instruction that follows it."""
    match = TAIL.search(text)
    if match and text[: match.start()].strip():
        text = text[: match.start()]
    return _MARKS.sub("", text).strip() or text


def _bracketed(prompt: str, start: int) -> list[str]:
    """Return what the bracket at a place holds, to its partner and to the line's last one."""
    begin = len(prompt) - len(prompt[start:].lstrip())
    opening = prompt[begin : begin + 1]
    if opening not in _BRACKETS or (opening in "(（【「{" and _is_label(prompt, begin)):
        return []
    closing, found = _BRACKETS[opening], []
    depth = 1
    for position in range(begin + 1, len(prompt)):
        depth += {opening: 1, closing: -1}.get(prompt[position], 0)
        if depth == 0:
            found.append(prompt[begin + 1 : position])
            break
    line = prompt[begin + 1 :].split("\n", 1)[0]
    if closing in line and (longer := line[: line.rindex(closing)]) not in found:
        found.append(longer)
    return found


def _is_label(prompt: str, begin: int) -> bool:
    return bool(re.match(r"[(（【「{]\s*[^\W_]{1,4}\s*[)）】」}]", prompt[begin:]))


def _below(prompt: str, start: int) -> str:
    """Return the list behind a header: the rest of its line and the lines to the next blank one."""
    rest = prompt[start:].lstrip()
    return re.split(r"\n[^\S\n]*\n", rest, maxsplit=1)[0].rstrip()


def _lines(inside: str) -> list[str]:
    """Return the lines of a list without bullets, up to an instruction."""
    found: list[str] = []
    bulleted = bool(BULLET.match(inside))
    for line in inside.split("\n"):
        bullet = BULLET.match(line)
        if INSTRUCTION_LINE.match(line):
            break
        if found and line[:1].isspace() and not bullet:
            found[-1] += " " + line.strip()
        elif bulleted and not bullet:
            break
        elif line.strip():
            found.append(line[bullet.end() :] if bullet else line)
    return [exact(line).rstrip(",;，；") for line in found]


def _may_be_options(prompt: str, run: LabelRun, texts: tuple[str, ...]) -> bool:
    """Return whether letters without a header may stand for options, not for steps or names."""
    if all(INSTRUCTION_VERB.match(text) for text in texts):
        return False
    if run.numbers and INSTRUCTION_VERB.match(texts[-1]):
        return False
    return run.lines or bool(_SENTENCE_BEFORE.search(prompt[: run.start]))


def _clear(prompt: str, run: LabelRun, texts: tuple[str, ...]) -> bool:
    """Return whether letters without a header can only be options."""
    if any(INSTRUCTION_VERB.match(text) for text in texts):
        return False
    before, after = prompt[: run.start].rstrip(" *_([（\t"), prompt[run.tokens[-1].content :]
    if QUESTION_AFTER.search(after.split("\n", 1)[-1] if "\n" in after else ""):
        return False
    asked = before.rstrip().endswith(("?", "？", ":", "："))
    if run.numbers:
        return before.rstrip().endswith(("?", "？"))
    return asked or (len(texts) > 2 and bool(_QUESTION_BEFORE.search(before)))


def _inline(prompt: str) -> Iterator[Offer]:
    """Yield "(yes/no)" at the end of a question, and ": red, green or blue?"."""
    slashes = list(re.finditer(r"[(（\[]([^()（）\[\]\n]*[^\s()]/[^()（）\[\]\n]*)[)）\]]", prompt))
    if slashes and not prompt[slashes[-1].end() :].strip(" .?:？。"):
        texts = [exact(piece) for piece in slashes[-1][1].split("/")]
        if len(texts) > 1 and all(texts):
            yield Offer(slashes[-1].start(), (OptionList(tuple(texts)),), clear=False)
    asked = re.search(r"[:：]\s*([^:：\n?？]+?\s+or\s+[^:：\n?？]+)[?？]\s*$", prompt)
    if asked:
        listings = tuple(OptionList(texts) for texts in split_list(asked[1], bracketed=False))
        yield Offer(asked.start(1), listings, clear=False)


def _bullets(prompt: str) -> Iterator[Offer]:
    """Yield bullets right below a question."""
    for match in _BULLETED.finditer(prompt):
        lines = _lines(match[1].rstrip("\n"))
        if len(lines) > 1 and not all(INSTRUCTION_VERB.match(line) for line in lines):
            yield Offer(match.start(1), (OptionList(tuple(lines)),), clear=False)
