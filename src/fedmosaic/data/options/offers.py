"""Find the lists of options in a prompt, with what speaks for them being options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from fedmosaic.data.options.choices import OptionList
from fedmosaic.data.options.labels import LabelRun, label_runs
from fedmosaic.data.options.lists import CLOSING, OPENING, split_list
from fedmosaic.data.options.match import exact
from fedmosaic.data.options.words import (
    ANNOUNCING,
    BULLET,
    HEADER,
    INSTRUCTION_LINE,
    INSTRUCTION_VERB,
    LABELS_ASKED,
    QUESTION,
    QUESTION_WORD,
    ROMANCE,
    SENTENCE_END,
    SENTENCE_START,
    TAIL,
)

_BRACKETS = {"[": "]", "{": "}", "(": ")", "（": "）", "【": "】", "「": "」"}
_SENTENCE_BEFORE = re.compile(r"(?:^|[?？.。:：!！…\n>)\]）】\"”])[\s*_(（\[]*$")
_SEPARATORS = [re.compile(rf"\s*{marks}$") for marks in (r"\|", "[;；]", "[,，、]", "[/／]")]
_LAST_AND = re.compile(r"(?:(?<=[,，、;；|])\s*|\s+)(?:or|and|或|または)$", re.I)
_BULLETED = re.compile(r"[?？:：]\s*\n((?:[^\S\n]*[-•·▪◦‣●○*]\s+\S[^\n]*(?:\n|$)){2,})")
_SLASHED = re.compile(
    r"(?P<asked>(?<=[?？])\s*(?=[(（\[])|(?=[(（\[]\s*(?i:yes|no|true|false)\b))?"
    r"[(（\[](?P<list>[^()（）\[\]\n]+/[^()（）\[\]\n]+)[)）\]][\s.:?？。]*(?:<image>\s*)*$"
)
_SEPARATED = re.compile(r"[^\S\n]*(?:[,，、;；|/]|(?:or|and)\b|\n\s*[(\[{（【「])")
_LONG_GAP = re.compile(r"([^\S\n]{8})[^\S\n]+|(\n{8})\n+")
_MOST_LISTS = 8  # that are looked at, from the end of the prompt
_MARKS = re.compile(r"(?<=[^\s,，、;；|/])(?:\s*<image>)+$")


@dataclass(frozen=True)
class Offer:
    """Hold one list of a prompt.

    Attributes:
        start: where it begins in the prompt.
        lists: the ways to read it, the likeliest first.
        clear: it can only be meant as options, even if the answer is none of them.
        sentences: the answer may be a sentence with an option.
        joins: pieces that together spell the answer are one option.
    """

    start: int
    lists: tuple[OptionList, ...]
    clear: bool
    sentences: bool
    joins: bool = False


def offers(prompt: str) -> list[Offer]:
    """Return the lists of a prompt that are options, or may be, the last one first."""
    prompt = _LONG_GAP.sub(r"\1\2", prompt)  # of no meaning, and slow to search
    headers = list(HEADER.finditer(prompt))[-_MOST_LISTS:]
    bracketed = [
        (header, inside) for header in headers if (inside := _bracketed(prompt, header.end()))
    ]
    found = [_in_brackets(prompt, header, inside) for header, inside in bracketed]
    covered = [(header.start(), header.end() + len(inside[0]) + 1) for header, inside in bracketed]
    for run in label_runs(prompt)[-_MOST_LISTS:]:
        texts = tuple(_texts(prompt, run))
        if all(texts) and not _inside(run.start, covered):
            found.append(_lettered(prompt, run, texts, headers))
            if found[-1] is not None:
                begins = [header.start() for header in headers if _heads(prompt, header, run)]
                covered.append((min([run.start, *begins]), run.tokens[-1].content))
    found += [_behind(prompt, header) for header in headers if not _inside(header.start(), covered)]
    found += [*_inline(prompt), *_bullets(prompt)]
    return sorted((offer for offer in found if offer is not None), key=lambda offer: -offer.start)


def _inside(place: int, spans: list[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in spans)


def _in_brackets(prompt: str, header: re.Match[str], insides: list[str]) -> Offer | None:
    """Return a list in brackets behind a header."""
    lists = tuple(reading for inside in insides for reading in read_list(inside, bracketed=True))
    clear = _announces(prompt, header)
    return Offer(header.start(), lists, clear, clear, joins=True) if lists else None


def _behind(prompt: str, header: re.Match[str]) -> Offer | None:
    """Return a list behind a header, on its line or below, that neither letters nor brackets part.

    It ends at a blank line.
    """
    inside = re.split(r"\n[^\S\n]*\n", prompt[header.end() :].lstrip(), maxsplit=1)[0].rstrip()
    lists = tuple(read_list(inside, False, romance=bool(ROMANCE.match(header[0]))))
    if not lists:
        return None
    prose = bool(header["noun"] or header["loose_noun"]) and not _announces(prompt, header)
    return Offer(header.start(), lists, _announces(prompt, header), not prose, joins=True)


def _announces(prompt: str, header: re.Match[str]) -> bool:
    """Return whether a header can only announce options: no word of a sentence like others."""
    if header["loose_noun"]:
        return False
    if header["verb"]:
        return bool(header["plain_verb"])
    sentence = SENTENCE_START.split(prompt[: header.start()])[-1]
    return not sentence.strip(" *_#-") or bool(ANNOUNCING.search(sentence))


def _lettered(
    prompt: str, run: LabelRun, texts: tuple[str, ...], headers: list[re.Match[str]]
) -> Offer | None:
    """Return a lettered list, unless its letters are more likely steps, names or speakers."""
    labels = tuple(token.label for token in run.tokens)
    listing = (OptionList(texts, labels),)
    if any(_heads(prompt, header, run) for header in headers):
        return Offer(run.start, listing, clear=True, sentences=True)
    after = prompt[run.tokens[-1].content :]
    asked_after = _asks_more(after) and not all(map(QUESTION.search, texts))
    if asked_after and (run.numbers or not run.lines or run.style == "mark_colon"):
        return None  # sentences with initials, statements, speakers, and then the question
    if not run.lines and not _SENTENCE_BEFORE.search(prompt[: run.start]):
        return None
    instructions = [bool(INSTRUCTION_VERB.match(text)) for text in texts]
    if all(instructions) or (run.numbers and instructions[-1]):
        return None
    clear = not any(instructions) and _asked(prompt, run, after)
    return Offer(run.start, listing, clear, sentences=clear)


def _asks_more(after: str) -> bool:
    """Return whether a sentence ends and another one, a question, follows."""
    mark = max(after.rfind("?"), after.rfind("？"))
    return bool(SENTENCE_END.search(after, 0, max(mark, 0)))


def _heads(prompt: str, header: re.Match[str], run: LabelRun) -> bool:
    return header.end() <= run.start and not prompt[header.end() : run.start].strip(" \t\n*_")


def _asked(prompt: str, run: LabelRun, after: str) -> bool:
    """Return whether a question stands right before letters, so that they can only be options."""
    before = prompt[: run.start].rstrip(" \t\n*_([（")
    if QUESTION.search(after.partition("\n")[2]):
        return False
    if before.endswith(("?", "？")):
        return True
    return not run.numbers and bool(QUESTION_WORD.search(before))


def asks_for_labels(prompt: str) -> bool:
    """Return whether a prompt asks for the letter or the number of an option."""
    return bool(LABELS_ASKED.search(prompt))


def read_list(inside: str, bracketed: bool, romance: bool = False) -> Iterator[OptionList]:
    """Yield the ways to read a text that lists options and nothing else, the likeliest first.

    Args:
        inside: the list, without its brackets.
        bracketed: whether it stood in brackets.
        romance: "o", "u", "y" and "e" are words for "or" and "and".
    """
    for run in label_runs(inside):
        texts = tuple(_texts(inside, run))
        if not inside[: run.start].strip(" \t\n'\"") and all(texts):
            yield OptionList(texts, tuple(token.label for token in run.tokens))
            return
    if not bracketed:
        lines = _lines(inside)
        if len(lines) > 1:
            yield OptionList(tuple(lines))
        inside = _without_tail(inside.strip().partition("\n")[0])
    for texts in split_list(inside, bracketed, romance):
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
    for end in (".", "。", "?", "？"):
        if not any(piece.endswith(end) for piece in pieces[:-1]):
            pieces[-1] = pieces[-1].removesuffix(end) or pieces[-1]
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
    closing, rest = _BRACKETS[opening], prompt[begin + 1 :]
    ends = [_partner(rest, OPENING, CLOSING), _partner(rest, opening, closing)]
    ends.append(rest.partition("\n")[0].rfind(closing))
    fitting = [end for end in ends if rest[max(end, 0) :][:1] == closing]
    # A separator or another bracket behind it: this one is of the first option.
    return [rest[:end] for end in dict.fromkeys(fitting) if not _SEPARATED.match(rest[end + 1 :])]


def _partner(text: str, opening: str, closing: str) -> int:
    """Return where the bracket before a text is closed; -1 if nowhere."""
    depth = 1
    for position, letter in enumerate(text):
        depth += (letter in opening) - (letter in closing)
        if depth == 0:
            return position
    return -1


def _is_label(prompt: str, begin: int) -> bool:
    return bool(re.match(r"[(（【「{]\s*[^\W_]{1,4}\s*[)）】」}]", prompt[begin:]))


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


def _inline(prompt: str) -> Iterator[Offer]:
    """Yield "(yes/no)" at the end of a question, and ": red, green or blue?"."""
    slashed = _SLASHED.search(prompt)
    if slashed:
        texts = tuple(exact(piece) for piece in slashed["list"].split("/"))
        if len(texts) > 1 and all(texts) and (len(texts) > 2 or slashed["asked"] is not None):
            yield Offer(slashed.start("list"), (OptionList(texts),), clear=False, sentences=False)
    asked = re.search(r"[:：]\s*([^:：\n?？]+?\s+or\s+[^:：\n?？]+)[?？]\s*$", prompt)
    if asked:
        listings = tuple(OptionList(texts) for texts in split_list(asked[1], bracketed=False))
        yield Offer(asked.start(1), listings, clear=False, sentences=False)


def _bullets(prompt: str) -> Iterator[Offer]:
    """Yield bullets right below a question."""
    for match in _BULLETED.finditer(prompt):
        lines = _lines(match[1].rstrip("\n"))
        if len(lines) > 1 and not all(INSTRUCTION_VERB.match(line) for line in lines):
            yield Offer(match.start(1), (OptionList(tuple(lines)),), clear=False, sentences=True)
