"""Tell what the values of fields are: absent, text, numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.data.records import RecordLocation

DEEPEST = 100
"""Most levels of lists and objects within each other."""


@dataclass(frozen=True)
class Field:
    """Hold a field of an item.

    Attributes:
        name: its name, as the file has it.
        value: its value.
    """

    name: str
    value: Any


# White space, and characters that nobody sees: zero-width ones, soft hyphens, byte-order marks.
_UNSEEN = re.compile(r"[\s\u00ad\u180e\u200b-\u200f\u2060-\u2064\ufeff]*")


class WrittenNumber(float):
    """Hold a number with a fraction, as the file has it: ``1.50``.

    Attributes:
        written: the number as it was written.
    """

    written: str

    @classmethod
    def of(cls, written: str) -> WrittenNumber:
        """Return the number of a text."""
        found = cls(written)
        found.written = written
        return found


class _TooDeep(Exception):
    """Report a value that is nested too deeply."""


def blank(text: str) -> bool:
    """Return whether a text has nothing that people see."""
    return _UNSEEN.fullmatch(text) is not None


def absent(value: Any) -> bool:
    """Return whether a value means that the item has no such field."""
    if value is None or value == [] or value == {}:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and blank(value)


def repeats(value: Any, texts: Sequence[str]) -> bool:
    """Return whether texts hold a value already, or the value holds all of them."""
    parts = [str(entry).strip() for entry in (value if isinstance(value, list) else [value])]
    whole = "\n".join(texts)
    present = [text.strip() for text in texts if text.strip()]
    return all(part in whole for part in parts) or all(
        any(text in part for part in parts) for text in present
    )


def check_text(name: str, value: Any, location: RecordLocation) -> None:
    """Require that all texts of a value are whole characters.

    Raises:
        DataError: a text holds half of a character (a lone surrogate), or lists and objects are
            nested too deeply.
    """
    try:
        for text in _texts(value):
            if not text.isascii():
                text.encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        raise location.error(
            name,
            f"holds half of a character ({half!a}, a surrogate without its partner); write the"
            " text anew",
        ) from error
    except _TooDeep as error:
        raise location.error(
            name, f"has more than {DEEPEST} lists or objects within each other"
        ) from error


def _texts(value: Any, level: int = 0) -> Iterable[str]:
    """Yield the texts of a value; an error says that it is nested too deeply."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        if level == DEEPEST:
            raise _TooDeep
        if isinstance(value, dict):
            yield from map(str, value)
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry, level + 1)


def text_of(field: Field, location: RecordLocation) -> str:
    """Return a field's value as text; a number is written out.

    Raises:
        DataError: it is neither text nor a number, or it is empty.
    """
    value = field.value
    if isinstance(value, bool):
        raise location.error(
            field.name, f"is {str(value).lower()}; write the text to learn, such as 'yes' or 'no'"
        )
    if isinstance(value, WrittenNumber):
        return value.written
    if isinstance(value, int | float):
        if not math.isfinite(value):
            raise location.error(field.name, f"is the number {value}; write it as a text")
        return str(value)
    if not isinstance(value, str):
        raise location.error(field.name, f"expected text, found {kind_of(value)}")
    if blank(value):
        raise location.error(field.name, "expected text that is not empty")
    return value


def kind_of(value: Any) -> str:
    """Return what a value is, in words."""
    if isinstance(value, str):
        return "an empty text" if blank(value) else "a text"
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    numbers = {int: "a number", float: "a number", WrittenNumber: "a number"}
    return (kinds | numbers).get(type(value), f"a {type(value).__name__}")
