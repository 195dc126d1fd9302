"""Take the fields of an item by what they mean, and account for each of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.data.image import StoredImage
from fedmosaic.data.reading.names import (
    MEANINGS,
    image_number,
    looks_like_picture,
    plain_name,
    why_refused,
)
from fedmosaic.data.reading.notes import Notes
from fedmosaic.data.records import Record, RecordLocation


@dataclass(frozen=True)
class Field:
    """Hold a field of an item.

    Attributes:
        name: its name, as the file has it.
        value: its value.
    """

    name: str
    value: Any


class Fields:
    """Take the fields of an item by meaning; what nobody took is accounted for at the end.

    A field whose value is null, NaN or an empty list is absent. So is an empty text.

    Args:
        record: the item.
        location: where it is, for messages.

    Raises:
        DataError: a field would change what is learned and is not supported.
    """

    def __init__(self, record: Record, location: RecordLocation) -> None:
        self.location = location
        self.record = record
        self.fields = [Field(name, value) for name, value in record.items() if not absent(value)]
        self._taken: set[str] = set()
        for field in self.fields:
            check_text(field.name, field.value, location)
            reason = why_refused(plain_name(field.name), field.value)
            if reason is not None:
                raise location.error(field.name, reason)

    def named(self, meaning: str) -> list[Field]:
        """Return the fields of a meaning that are present, without taking them."""
        names = MEANINGS[meaning]
        found = [field for field in self.fields if plain_name(field.name) in names]
        return sorted(found, key=lambda field: names.index(plain_name(field.name)))

    def has(self, meaning: str) -> bool:
        """Return whether a field of this meaning is present."""
        return bool(self.named(meaning))

    def has_any_name(self, meaning: str) -> Field | None:
        """Return the first field of this meaning even if its value is absent."""
        names = MEANINGS[meaning]
        return next((Field(n, v) for n, v in self.record.items() if plain_name(n) in names), None)

    def take(self, meaning: str) -> Field | None:
        """Return the field of a meaning; None if there is none.

        Raises:
            DataError: several fields of this meaning have different values.
        """
        found = self.named(meaning)
        self._taken.update(field.name for field in found)
        for other in found[1:]:
            if other.value != found[0].value:
                raise self.location.error(
                    other.name,
                    f"{found[0].name!r} is there too, and both hold the {meaning}; remove one",
                )
        return found[0] if found else None

    def take_name(self, name: str) -> Any:
        """Return the value of the field of exactly this name; None if it is absent."""
        self._taken.add(name)
        return next((field.value for field in self.fields if field.name == name), None)

    def take_images(self) -> list[Field]:
        """Return the fields that hold images: one, or several that are numbered."""
        numbered = [
            (number, field)
            for field in self.fields
            if (number := image_number(plain_name(field.name))) is not None
        ]
        found = self.take("images")
        if not numbered:
            return [found] if found else []
        if found:
            raise self.location.error(
                found.name, f"{numbered[0][1].name!r} holds images too; put them into one field"
            )
        self._taken.update(field.name for _, field in numbered)
        return [field for _, field in sorted(numbered, key=lambda entry: entry[0])]

    def lettered(self) -> Field | None:
        """Take the fields A, B, C ... as options; None without A and B."""
        texts: dict[str, Any] = {}
        for letter in "ABCDEFGHIJKLMNOP":
            wanted = (letter.casefold(), f"option_{letter.casefold()}")
            found = next((f for f in self.fields if plain_name(f.name) in wanted), None)
            if found is None:
                break
            texts[letter] = found
        if len(texts) < 2:
            return None
        self._taken.update(field.name for field in texts.values())
        return Field(texts["A"].name, {letter: field.value for letter, field in texts.items()})

    def account(self, texts: Sequence[str], notes: Notes) -> None:
        """Account for the fields that were not taken.

        A field that repeats what is in the item, or that only describes it, is noted. Any other
        field that could change what is learned is an error.

        Args:
            texts: the texts of the item's turns.
            notes: takes what is to be said.

        Raises:
            DataError: a field could change what is learned, and is not used.
        """
        ids = [field.name for field in self.named("id")[:1]]
        rest = [field for field in self.fields if field.name not in (*self._taken, *ids)]
        has_images = any(
            plain_name(field.name) in MEANINGS["images"] or looks_like_picture(field.value)
            for field in self.fields
            if field.name in self._taken
        )
        known = {name for names in MEANINGS.values() for name in names} - set(
            (*MEANINGS["id"], *MEANINGS["label"])
        )
        for field in rest:
            plain = plain_name(field.name)
            address = "url" in plain.split("_") or plain in ("source", "src", "license")
            picture = looks_like_picture(field.value) or isinstance(field.value, StoredImage)
            if picture and not (has_images and address):
                raise self.location.error(
                    field.name,
                    "names a picture, but is not a field that is read; call it 'image' (or put"
                    " all pictures into 'images')",
                )
            if plain in known and not repeats(field.value, texts):
                raise self.location.error(
                    field.name,
                    "is not used beside the item's other fields, although it could change what is"
                    " learned; remove it, or write its text into a turn",
                )
            notes.unused(field.name, self.location)


def absent(value: Any) -> bool:
    """Return whether a value means that the item has no such field."""
    if value is None or value == [] or value == {}:
        return True
    if isinstance(value, float):
        return math.isnan(value)
    return isinstance(value, str) and not value.strip()


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
        DataError: a text holds half of a character (a lone surrogate).
    """
    for text in _texts(value):
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise location.error(
                    name,
                    f"holds half of a character ({text[error.start]!a}, a surrogate without its"
                    " partner); write the text anew",
                ) from error


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, entry in value.items():
            yield from _texts(key)
            yield from _texts(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry)


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
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise location.error(field.name, f"expected text, found {kind_of(value)}")
    if not value.strip():
        raise location.error(field.name, "expected text that is not empty")
    return value


def kind_of(value: Any) -> str:
    """Return what a value is, in words."""
    kinds = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), f"a {type(value).__name__}")
