"""Find the answer of a row among its fields, and check that it can be learned."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fedmosaic.data.reading.fields import Fields
from fedmosaic.data.reading.names import MEANINGS, plain_name
from fedmosaic.data.reading.notes import Notes
from fedmosaic.data.reading.turns import SPEAKERS
from fedmosaic.data.reading.values import Field, absent, kind_of
from fedmosaic.data.records import RecordLocation


def answer_field(fields: Fields, notes: Notes) -> Field | None:
    """Return the field of the answer: one answer, where other fields hold it among several."""
    found = fields.named("answer")
    single = [field for field in found if not isinstance(field.value, list | dict)]
    lists = [field for field in found if isinstance(field.value, list)]
    if len(single) != 1 or not lists or len(found) != 1 + len(lists):
        return fields.take("answer")
    fields.take_each("answer")
    for field in lists:
        if single[0].value not in _answers(field.value):
            raise fields.location.error(
                field.name, f"does not hold {single[0].name!r}, {single[0].value!r}; remove one"
            )
        notes.add(
            f"answers {field.name}",
            fields.location,
            field.name,
            f"holds {len(field.value)} answers; {single[0].name!r} is taken",
        )
    return single[0]


def one_answer(answer: Field, location: RecordLocation, notes: Notes) -> Any:
    """Return the answer of a field; of several answers the commonest, the first among equals."""
    value = answer.value
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        # SQuAD: texts with their places in the context.
        if not value["text"]:
            raise location.error(
                answer.name, "holds no answer; write what to answer, or leave the item out"
            )
        value = value["text"]
    if not isinstance(value, list):
        if isinstance(value, dict):
            raise location.error(answer.name, f"expected text, found {kind_of(value)}")
        return value
    texts = _answers(value)
    if not texts or any(absent(text) or isinstance(text, list | dict | bool) for text in texts):
        raise location.error(answer.name, "expected a text, or a list of texts")
    counts = Counter(map(str, texts))
    found, times = counts.most_common(1)[0]
    if len(counts) > 1:
        only = list(counts.values()).count(times) == 1
        which = "the commonest" if only else "the first of the commonest"
        notes.add(
            f"answers {answer.name}",
            location,
            answer.name,
            f"holds {len(texts)} answers; {which} is taken, {found!r}",
        )
    return next(text for text in texts if str(text) == found)


def _answers(values: list[Any]) -> list[Any]:
    """Return the answers of a list of them, or of objects with an ``answer``."""
    return [entry.get("answer") if isinstance(entry, dict) else entry for entry in values]


def require_open(answer: Field, place: Field | None, fields: Fields) -> None:
    """Require that an answer without options is a text, and not the place of an option."""
    if place is not None:
        raise fields.location.error(
            place.name, "names an option, but the item has no field 'options' (or 'choices')"
        )
    if isinstance(answer.value, bool):
        return
    if plain_name(answer.name) in MEANINGS["label"] and isinstance(answer.value, int):
        raise fields.location.error(
            answer.name,
            f"is the number {answer.value} of a class whose name is not there; write the name, or"
            " add 'options'",
        )


def require_clear_place(
    options: Field, answer: Field | None, place: Field | None, location: RecordLocation
) -> None:
    """Require that a number is no place among columns 1, 2 ..., which people count from 0 or 1."""
    texts = options.value
    if not isinstance(texts, dict) or "1" not in texts or "0" in texts:
        return
    for field in (answer, place):
        if field is None or str(field.value) in map(str, texts.values()):
            continue
        counted = isinstance(field.value, int) or plain_name(field.name) not in MEANINGS["answer"]
        if counted and str(field.value).strip().isdecimal():
            raise location.error(
                field.name,
                f"is {field.value!r}, which may be counted from 0 or from 1; write the option's"
                " text",
            )


def require_no_speaker(fields: Fields) -> None:
    """Require that an item with a text is not one turn of a conversation."""
    for field in fields.fields:
        if plain_name(field.name) not in ("role", "from", "speaker"):
            continue
        speaker = str(field.value).strip().casefold()
        if speaker in SPEAKERS or speaker == "prompter":
            raise fields.location.error(
                field.name,
                f"says that the item is one turn, the {speaker}'s; put the turns of a conversation"
                " into one item's 'conversations'",
            )
