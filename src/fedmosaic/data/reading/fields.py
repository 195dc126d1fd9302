"""Take the fields of an item by what they mean, and account for each of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fedmosaic.data.image import StoredImage
from fedmosaic.data.reading.names import (
    MEANINGS,
    ORIGINS,
    PREFERENCE,
    image_number,
    looks_like_picture,
    plain_name,
    says_none,
    why_refused,
)
from fedmosaic.data.reading.notes import Notes
from fedmosaic.data.reading.values import Field, absent, check_text, repeats
from fedmosaic.data.records import Record, RecordLocation

_OPTION_COLUMN = re.compile(r"(?:(?:options?|choices?|opt?|ending)_?)?(?P<label>[a-p]|\d{1,2})")
# Fields that hold texts to ask about under names of their own.
_ASKING = re.compile(
    r"(?:questions?|queries|prompts?|instructions?|sentences?|statements?|premise|hypothesis|goal"
    r"|problem|utterance|user|human)(?:_?\d)?"
)
_PICTURE_BY_NUMBER = re.compile(r"(?:image|img|picture|photo|coco|flickr)_?(?:ids?|key|index)")
_PLACEHOLDERS = re.compile(r"<(?:bbox|ref-object)>")


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
        self.fields = [
            Field(name, value)
            for name, value in record.items()
            if not absent(value) and not says_none(plain_name(name), value)
        ]
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
        if meaning == "images":
            found = _pictures(found)
        elif meaning == "turns":
            found = [field for field in found if _may_be_turns(field)]
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
        found = self.take_each(meaning)
        for other in found[1:]:
            if _one(other.value) != _one(found[0].value):
                raise self.location.error(
                    other.name,
                    f"{found[0].name!r} is there too, and both hold the {meaning}; remove one",
                )
        return found[0] if found else None

    def take_each(self, meaning: str) -> list[Field]:
        """Return all fields of a meaning."""
        found = self.named(meaning)
        self._taken.update(field.name for field in found)
        return found

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

    def take_columns(self) -> Field | None:
        """Take options in fields of their own: ``A``, ``choice_a``, ``option1``; None without."""
        for first in ("a", "0", "1"):
            found: dict[str, Field] = {}
            for field in self.fields:
                match = _OPTION_COLUMN.fullmatch(plain_name(field.name))
                if match and (match["label"].isdigit() == first.isdigit()):
                    found.setdefault(match["label"], field)
            labels = _sequence(first, found)
            if len(labels) < 2 or (first.isdigit() and found[first].name.isdigit()):
                continue
            self._taken.update(found[label].name for label in labels)
            texts = {label.upper(): found[label].value for label in labels}
            return Field(found[first].name, texts)
        return None

    def account(self, texts: Sequence[str], notes: Notes, *, has_images: bool, asked: bool) -> None:
        """Account for the fields that were not taken.

        A field that repeats what is in the item, or that only describes it, is noted. Any other
        field that could change what is learned is an error.

        Args:
            texts: the texts of the item's turns and options.
            notes: takes what is to be said.
            has_images: the item has pictures.
            asked: something is asked in words, not by a picture alone.

        Raises:
            DataError: a field could change what is learned, and is not used.
        """
        identity = self.named("id")[:1]
        ids = [field.name for field in identity if isinstance(field.value, str | int | float)]
        rest = [field for field in self.fields if field.name not in (*self._taken, *ids)]
        for field in rest:
            self._require_harmless(field, has_images, asked, texts)
            notes.unused(field.name, self.location)

    def _require_harmless(
        self, field: Field, has_images: bool, asked: bool, texts: Sequence[str]
    ) -> None:
        """Require that a field which is not used could not change what is learned."""
        plain = plain_name(field.name)
        origin = plain in MEANINGS["images"] or plain in ("source", "src", "license")
        picture = looks_like_picture(field.value) or isinstance(field.value, StoredImage)
        if picture and not (has_images and (origin or "url" in plain.split("_"))):
            raise self.location.error(
                field.name,
                "names a picture, but is not a field that is read; call it 'image' (or put"
                " all pictures into 'images')",
            )
        if not has_images and _holds_picture(field.value):
            raise self.location.error(
                field.name,
                "holds a picture, but is not a field that is read; write its path into 'image'",
            )
        if not has_images and _PICTURE_BY_NUMBER.fullmatch(plain):
            raise self.location.error(
                field.name,
                f"names the picture {field.value!r}, but not its file; write its path into 'image'",
            )
        if plain == "label" and isinstance(field.value, bool):
            raise self.location.error(field.name, PREFERENCE)
        placeholder = _PLACEHOLDERS.search("\n".join(texts)) if plain == "objects" else None
        if placeholder:
            raise self.location.error(
                field.name,
                f"stands for {placeholder[0]} in the turns, and is not read; write its content"
                " into the turns",
            )
        unasked = not asked and has_images and _ASKING.fullmatch(plain)
        if (unasked or plain in _KNOWN) and not repeats(field.value, texts):
            raise self.location.error(
                field.name,
                "is not used beside the item's other fields, although it could change what is"
                " learned; remove it, or write its text into a turn",
            )


_DESCRIBING = ("id", "label", "images", "definition")
_KNOWN = {
    name for meaning, names in MEANINGS.items() if meaning not in _DESCRIBING for name in names
} - {"contents", "texts"}


def _holds_picture(value: Any) -> bool:
    """Return whether an object names a picture, at any depth."""
    if isinstance(value, dict):
        return any(looks_like_picture(v) or _holds_picture(v) for v in value.values())
    return isinstance(value, list) and any(_holds_picture(entry) for entry in value)


def _one(value: Any) -> Any:
    """Return the entry of a list that has but one."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _may_be_turns(field: Field) -> bool:
    """Return whether a field holds turns; of a name that is used for other things, by its value."""
    if plain_name(field.name) not in ("contents", "texts"):
        return True
    return isinstance(field.value, list) and all(isinstance(entry, dict) for entry in field.value)


def _pictures(fields: Sequence[Field]) -> list[Field]:
    """Return the fields that hold an item's pictures, without those that say where they are from.

    ``file_name`` is the picture where nothing else is. A path beside a picture that the file
    itself holds is its origin, too.
    """
    held = [field for field in fields if isinstance(_one(field.value), StoredImage)]
    proper = [field for field in fields if plain_name(field.name) not in ORIGINS]
    return held or proper or [field for field in fields if looks_like_picture(field.value)]


def _sequence(first: str, found: dict[str, Field]) -> list[str]:
    """Return the labels that follow each other without a gap, from the first one."""
    labels = []
    label = first
    while label in found:
        labels.append(label)
        label = str(int(label) + 1) if label.isdigit() else chr(ord(label) + 1)
    return labels
