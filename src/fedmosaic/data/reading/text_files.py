"""Read text, JSON and JSON Lines; errors name the file, the line and the item."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    """Return the items of a JSON file: a list, an object a line, or a list under one key.

    The content decides which of them it is, not the file's name.

    Raises:
        DataError: the file is unreadable, not JSON (with line and column), or has another form.
    """
    text = read_text_file(path)
    start = text.lstrip()[:1]
    if not start:
        return []
    if start == "[":
        return _list(path, _parse(path, text, 1))
    if start == "{" and (path.suffix.lower() == ".jsonl" or _is_lines(text)):
        return _lines(path, text)
    return _list(path, _parse(path, text, 1))


def _is_lines(text: str) -> bool:
    """Return whether the first line that is not blank is a whole JSON value, and others follow."""
    first, _, rest = text.strip().partition("\n")
    if not rest.strip():
        return False
    try:
        json.loads(first)
    except json.JSONDecodeError:
        return False
    return True


def _lines(path: Path, text: str) -> list[Any]:
    lines = enumerate(text.split("\n"), start=1)
    return [_parse(path, line, number) for number, line in lines if line.strip()]


def _list(path: Path, content: Any) -> Sequence[Any]:
    """Return the list of items of a whole JSON file."""
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a list of items, found {type(content).__name__};"
            " put the items in [ ], or one a line in a .jsonl file"
        )
    lists = [key for key, value in content.items() if _holds_items(value)]
    if len(lists) == 1:
        found: list[Any] = content[lists[0]]
        return found
    if len(lists) > 1:
        raise DataError(
            f"{path}: expected a list of items, found lists under several keys:"
            f" {', '.join(map(repr, lists))}; write a file for each"
        )
    if any(isinstance(value, list) for value in content.values()) and _is_columns(content):
        raise DataError(
            f"{path}: expected a list of items, found columns ({', '.join(map(repr, content))});"
            " write one object for each item"
        )
    raise DataError(
        f"{path}: expected a list of items, found one object with the keys"
        f" {', '.join(map(repr, content))}; put the items in [ ], or one a line in a .jsonl file"
    )


def _holds_items(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def _is_columns(content: dict[str, Any]) -> bool:
    lengths = {len(value) if isinstance(value, list) else -1 for value in content.values()}
    return len(lengths) == 1 and len(content) > 1


class _RepeatedKey(Exception):
    """Report a key that stands twice in a JSON object."""


def _parse(path: Path, text: str, first_line: int) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise _RepeatedKey(next(name for name in names if names.count(name) > 1))
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(
            f"{path} is not valid JSON: {error.msg} (line {line}, column {error.colno})"
        ) from error
    except _RepeatedKey as error:
        where = f" of line {first_line}" if text.count("\n") == 0 else ""
        raise DataError(
            f"{path}: an object{where} has the key {str(error)!r} twice; remove one of the two"
        ) from error
    except RecursionError as error:
        raise DataError(f"{path} is not usable JSON: it is nested too deeply") from error
