"""Make the example of an item, whatever its form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedmosaic.data.example import IMAGE_MARK, Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.data.options import (
    Choices,
    NotOffered,
    OptionsError,
    choices_in_prompt,
    choices_of_field,
    spelled,
)
from fedmosaic.data.reading.fields import Fields
from fedmosaic.data.reading.marks import find_mark, inline_pictures, linked_picture, mark_images
from fedmosaic.data.reading.names import MEANINGS, plain_name
from fedmosaic.data.reading.notes import Notes
from fedmosaic.data.reading.pictures import Pictures
from fedmosaic.data.reading.rows import Draft, missing, read_row
from fedmosaic.data.reading.turns import read_turns
from fedmosaic.data.reading.values import Field, blank, text_of
from fedmosaic.data.records import Record, RecordLocation


def item_id(record: Record, index: int) -> str:
    """Return the item's id as text, or its index if it has none."""
    by_name = {plain_name(str(name)): value for name, value in record.items()}
    values = (by_name.get(name) for name in MEANINGS["id"])
    return str(next((v for v in values if isinstance(v, str | int) and v != ""), index))


class ItemReader:
    """Make examples of the items of a file.

    Args:
        path: the file or folder.
        folders: folders that image paths may start from.

    Attributes:
        notes: what is to be said about the items read so far.
    """

    def __init__(self, path: Path, folders: Sequence[Path]) -> None:
        self.notes = Notes(path)
        self.pictures = Pictures(folders)

    def read(self, record: Record, location: RecordLocation) -> tuple[Example, RecordLocation]:
        """Make the example of one item; the location then names the field with its images.

        Args:
            record: the item.
            location: where it is, for messages.

        Raises:
            DataError: a field is missing, malformed, or would be ignored although it could change
                what is learned; the message names file, item and field.
        """
        fields = Fields(record, location)
        pictures = fields.take_images()
        if fields.has("turns"):
            draft = self._conversation(fields)
        elif (empty := fields.has_any_name("turns")) and not fields.has("question"):
            raise location.error(empty.name, "expected a list of turns, with a question and answer")
        else:
            has_images = bool(pictures)
            draft = read_row(fields, has_images, self.notes)
        turns = _with_system(draft.turns, fields)
        turns, inline = inline_pictures(turns)
        if inline:
            draft.pictures = [*draft.pictures, *inline]
        images = self._images(draft, pictures, location)
        name = pictures[0].name if pictures else _words_field(fields)
        turns, images = mark_images(turns, images, location, name)
        self._note_link(turns, _words_field(fields), location)
        choices = self._choices(draft, turns, location)
        if choices is not None:
            _require_no_marks(draft, choices, location)
            turns[-1] = replace(turns[-1], text=choices.learn)
        asked = any(
            turn.role == "user" and not blank(turn.text.replace(IMAGE_MARK, "")) for turn in turns
        )
        texts = [turn.text for turn in turns] + _option_texts(choices)
        fields.account(texts, self.notes, has_images=bool(images), asked=asked)
        example = Example(location.id, tuple(turns), tuple(images))
        if choices is not None:
            spellings = spelled(choices.learn, choices)
            example = replace(
                example, options=choices.options, choice=choices.index, spellings=spellings
            )
        return example, replace(location, images=name) if images else location

    def _conversation(self, fields: Fields) -> Draft:
        source = fields.take("turns")
        assert source is not None
        found = read_turns(source, fields.location, self.notes)
        answer = Field(source.name, found.turns[-1].text)
        return Draft(found.turns, found.pictures, fields.take("options"), answer)

    def _note_link(self, turns: Sequence[Turn], field: str, location: RecordLocation) -> None:
        linked = linked_picture(turns)
        if linked:
            message = (
                f"the text links to a picture, {linked!r}, which the model is not shown; to show it"
                " name it in 'images'"
            )
            self.notes.add("linked", location, field, message)

    def _images(
        self, draft: Draft, fields: Sequence[Field], location: RecordLocation
    ) -> list[Image]:
        """Return the images of an item: those of its fields, or those that its parts name."""
        images = [image for field in fields for image in self.pictures.of(field, location)]
        named = [value for value in draft.pictures if value is not None]
        if not named:
            return images
        if len(named) < len(draft.pictures):
            raise location.error(
                "image",
                f"{len(draft.pictures) - len(named)} of {len(draft.pictures)} image parts name no"
                " picture; name one in each part, or all of them in 'images'",
            )
        if all(isinstance(value, int) for value in named):
            if sorted(named) != list(range(len(images))):
                raise location.error(
                    "index",
                    f"the image parts have the places {', '.join(map(str, named))} of"
                    f" {len(images)} images, counted from 0; each image needs one part",
                )
            return [images[place] for place in named]
        parts = [self.pictures.one(value, "image", location) for value in named]
        if images and [image.source for image in images] != [image.source for image in parts]:
            raise location.error(
                fields[0].name,
                f"{len(images)} images beside the {len(parts)} that image parts name; name them in"
                " one place",
            )
        return parts

    def _choices(
        self, draft: Draft, turns: Sequence[Turn], location: RecordLocation
    ) -> Choices | None:
        prompt = next((turn.text for turn in reversed(turns) if turn.role == "user"), "")
        answer = draft.answer or Field("text", None)
        try:
            if draft.options is None:
                return choices_in_prompt(prompt, turns[-1].text) if len(turns) > 1 else None
            raw = turns[-1].text if answer.value is None else answer.value
            found = _of_field(draft.options, Field(answer.name, raw), prompt)
            if draft.place is not None:
                other = _of_field(draft.options, draft.place, prompt)
                if found.options[found.index] != other.options[other.index]:
                    raise location.error(
                        draft.place.name,
                        f"is another option, {draft.place.value!r}, than {answer.name!r}, {raw!r}",
                    )
            return found
        except NotOffered as error:
            self.notes.add(
                "not offered",
                location,
                answer.name,
                f"{error.message}; the item is read without options",
            )
            return None
        except OptionsError as error:
            raise location.error(error.field, error.message) from error


def _of_field(options: Field, answer: Field, prompt: str) -> Choices:
    return choices_of_field(
        options.value, answer.value, prompt, name=options.name, answer_name=answer.name
    )


def _with_system(turns: list[Turn], fields: Fields) -> list[Turn]:
    """Return the turns behind the system turn that a field holds."""
    field = fields.take("system")
    if field is None:
        return list(turns)
    text = text_of(field, fields.location).strip()
    if turns[0].role == "system":
        if turns[0].text != text:
            raise fields.location.error(
                field.name, "the turns have a system turn too, of another text; remove one"
            )
        return list(turns)
    if turns[0].role == "assistant":
        raise missing("question", fields)
    return [Turn("system", text), *turns]


def _words_field(fields: Fields) -> str:
    """Return the name of the field whose words may hold marks of images."""
    for meaning in ("turns", "question", "context", "text"):
        found = fields.named(meaning)
        if found:
            return found[0].name
    return "image"


def _require_no_marks(draft: Draft, choices: Choices, location: RecordLocation) -> None:
    """Require that the options of a field are texts, and not marks of images."""
    for option in choices.options if draft.options is not None else ():
        mark = find_mark(option)
        if mark is not None:
            assert draft.options is not None
            raise location.error(
                draft.options.name,
                f"has the mark {mark} in an option; pictures as options are not supported",
            )


def _option_texts(choices: Choices | None) -> list[Any]:
    return list(choices.options) if choices else []
