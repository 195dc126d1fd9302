"""Read text, JSON and JSON Lines; errors name the file, the line and the item."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.data.reading.json_forms import items_of
from fedmosaic.data.reading.values import WrittenNumber
from fedmosaic.data.records import Record
from fedmosaic.errors import DataError


def read_text_file(path: Path) -> str:
    """Return a file's text, UTF-8 with or without a byte-order mark.

    Raises:
        DataError: the file is missing, unreadable or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"data file {path} does not exist") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"data file {path} is not UTF-8 text: {error.reason} at byte {error.start};"
            " save it as UTF-8"
        ) from error
    except OSError as error:
        raise DataError(f"data file {path} cannot be read: {error.strerror}") from error


def paragraphs(path: Path) -> list[Record]:
    """Return the texts of a ``.txt`` file: separated by blank lines, or else one a line.

    Raises:
        DataError: the file is unreadable or holds no text.
    """
    text = read_text_file(path).strip()
    blocks = re.split(r"\n\s*\n", text)
    if len(blocks) == 1:
        blocks = text.split("\n")
    texts = [block.strip() for block in blocks if block.strip()]
    if not texts:
        raise DataError(f"{path} holds no text; it must have at least one line")
    return [{"text": block} for block in texts]


def json_records(path: Path) -> Sequence[Any]:
    """Return the items of a JSON file: a list, an object a line, or another form of the whole.

    The content decides which of them it is, not the file's name.

    Raises:
        DataError: the file is unreadable, not JSON (with line and column), or has another form.
    """
    text = read_text_file(path)
    start = text.lstrip()[:1]
    if not start:
        return []
    if start == "{" and (path.suffix.lower() in (".jsonl", ".ndjson") or _is_lines(text)):
        return _lines(path, text)
    return items_of(path, _parse(path, text, 1))


def _is_lines(text: str) -> bool:
    """Return whether the first line that is not blank is a whole JSON value, and others follow."""
    lines = _numbered_lines(text)
    (_, first), second = next(lines), next(lines, None)
    if second is None:
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


def _numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    start, number = 0, 1
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end]
        if line.strip():
            yield number, line
        start, number = end + 1, number + 1


def _lines(path: Path, text: str) -> list[Any]:
    return [_parse(path, line, number) for number, line in _numbered_lines(text)]


def _parse(path: Path, text: str, first_line: int) -> Any:
    repeated: list[tuple[Record, str]] = []

    def unique(pairs: list[tuple[str, Any]]) -> Record:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            repeated.append((found, next(name for name in names if names.count(name) > 1)))
        return found

    try:
        content = json.loads(text, object_pairs_hook=unique, parse_float=WrittenNumber.of)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(
            f"{path} is not valid JSON: {error.msg} (line {line}, column {error.colno})"
        ) from error
    except ValueError as error:
        raise DataError(f"{path} is not usable JSON: {error}") from error
    except RecursionError as error:
        raise DataError(f"{path} is not usable JSON: it is nested too deeply") from error
    for twice, name in repeated[:1]:
        items = content if isinstance(content, list) else []
        index = next((k for k, item in enumerate(items) if _holds(item, twice)), None)
        where = f"of line {first_line}" if index is None else f"of item {index}"
        where = "" if index is None and "\n" in text.strip() else f" {where}"
        raise DataError(
            f"{path}: an object{where} has the key {name!r} twice; remove one of the two"
        )
    return content


def _holds(value: Any, wanted: Any) -> bool:
    """Return whether a value is an object, or holds it."""
    entries = value.values() if isinstance(value, dict) else value
    return value is wanted or (
        isinstance(value, dict | list) and any(_holds(entry, wanted) for entry in entries)
    )
