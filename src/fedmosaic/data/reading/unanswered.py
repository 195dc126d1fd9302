"""Read items that are to be answered: those of data files, whether they have an answer or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmosaic.data.reading.fields import Fields
from fedmosaic.data.reading.files import picture_folders, read_records
from fedmosaic.data.reading.items import ItemReader, item_id
from fedmosaic.data.reading.names import MEANINGS, plain_name
from fedmosaic.data.reading.values import absent, kind_of
from fedmosaic.data.records import FileExamples, Record, RecordLocation
from fedmosaic.errors import DataError

UNKNOWN = "unknown"
"""Stands for the answer of an open question in an example, which always has one."""
_ANSWERS = ("answer", "place", "label", "caption")


@dataclass(frozen=True)
class Inputs:
    """Hold items to answer.

    Attributes:
        examples: the items. Without an answer the last turn is a stand-in that no model sees.
        answered: for each item whether the file says what is right.
        notes: what the reader does not use, rewrites or guesses, a sentence each.
    """

    examples: FileExamples
    answered: tuple[bool, ...]
    notes: tuple[str, ...]


def read_inputs(path: Path, roots: Sequence[Path] = ()) -> Inputs:
    """Return the items of a data file, of which each may lack the answer.

    An item without an answer is a conversation that ends with the user's turn, or a row without
    one of the fields that hold answers. Its options are those of its field ``options``.

    Args:
        path: a file as of :func:`.read_examples`.
        roots: folders that image paths may start from, before the file's own.

    Raises:
        DataError: the file or an item is malformed; the message names file, item and field.
    """
    reader = ItemReader(path, picture_folders(path, roots))
    places, examples, answered = [], [], []
    for index, record in enumerate(read_records(path)):
        if not isinstance(record, dict):
            raise DataError(
                f"{path}: item {index}: expected an object with fields, found {kind_of(record)}"
            )
        location = RecordLocation(path, index, item_id(record, index))
        complete = _completed(record, location)
        example, place = reader.read(complete or record, location)
        examples.append(example)
        places.append(place)
        answered.append(complete is None)
    notes = tuple(line for line in reader.notes.lines() if f"the answer {UNKNOWN!r}" not in line)
    return Inputs(FileExamples.build(places, examples), tuple(answered), notes)


def _completed(record: Record, location: RecordLocation) -> Record | None:
    """Return an item with a stand-in for the answer that it lacks; None if it has one."""
    fields = Fields(record, location)
    turns = fields.named("turns")
    if turns and isinstance(turns[0].value, list):
        last = turns[0].value[-1]
        entry = _next_turn(last, _stand_in(fields)) if isinstance(last, dict) else None
        return None if entry is None else {**record, turns[0].name: [*turns[0].value, entry]}
    filled = {plain_name(name) for name, value in record.items() if not absent(value)}
    if any(filled & set(MEANINGS[meaning]) for meaning in _ANSWERS):
        return None
    asked = filled & {name for m in ("question", "definition", "context") for name in MEANINGS[m]}
    if not asked:  # a text by itself, or a mistake that the reader names
        return None
    empty = {name for name in record if plain_name(name) in MEANINGS["answer"]}
    rest = {name: value for name, value in record.items() if name not in empty}
    return {**rest, "answer": _stand_in(fields)}


def _stand_in(fields: Fields) -> Any:
    """Return the first option of an item, or a word."""
    options = fields.named("options")
    if options and isinstance(options[0].value, list):
        return options[0].value[0]
    if options and isinstance(options[0].value, Mapping):
        return next(iter(options[0].value))
    columns = None if options else fields.take_columns()
    return UNKNOWN if columns is None else next(iter(columns.value))


def _next_turn(last: Mapping[str, Any], text: Any) -> dict[str, Any] | None:
    """Return an assistant's turn in the form of a user's turn; None after another turn."""
    for who, what, assistant in (("from", "value", "gpt"), ("role", "content", "assistant")):
        if str(last.get(who, "")).casefold() in ("human", "user") and what in last:
            return {who: assistant, what: str(text)}
    return None
