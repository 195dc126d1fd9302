"""Read items that are rows: a question and its answer, a caption, a class, or text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fedmosaic.data.example import Turn
from fedmosaic.data.reading.answers import (
    answer_field,
    one_answer,
    require_clear_place,
    require_no_speaker,
    require_open,
)
from fedmosaic.data.reading.fields import Fields
from fedmosaic.data.reading.names import MEANINGS, plain_name
from fedmosaic.data.reading.notes import Notes
from fedmosaic.data.reading.tables import ClassName
from fedmosaic.data.reading.turns import read_turns
from fedmosaic.data.reading.values import Field, text_of

Pair = tuple[Field, Any]


@dataclass
class Draft:
    """Hold an item while it is read.

    Attributes:
        turns: its turns; of a row with options the last one is written by those who match them.
        pictures: value of each image part of its turns, see :class:`ReadTurns`.
        options: the field with its options, if there is one.
        answer: the field with its answer, where the answer is matched to options.
        place: a second field that names the right option, if there is one.
    """

    turns: list[Turn]
    pictures: list[Any] = field(default_factory=list)
    options: Field | None = None
    answer: Field | None = None
    place: Field | None = None


def read_row(fields: Fields, has_images: bool, notes: Notes) -> Draft:
    """Return the turns of a row.

    The user's turn is the question and, after a blank line, its context. A picture without a
    question is asked about by its mark. Text without a question is one assistant turn.

    Args:
        fields: the item's fields.
        has_images: the item has images.
        notes: takes what is to be said.

    Raises:
        DataError: a field is missing or malformed.
    """
    location = fields.location
    question = fields.take("question") or fields.take("definition")
    if question is not None and isinstance(question.value, list):
        return _messages(question, fields, notes)
    asked = [*([question] if question else []), *fields.take_each("context")]
    if not asked and fields.has("text") and _has_answer(fields):
        asked = fields.take_each("text")
    if not asked and not has_images:
        if not _has_answer(fields) and not fields.has("caption"):
            return Draft([Turn("assistant", text_of(_only_text(fields), location).strip())])
        raise _unasked(fields)
    texts = [text_of(part, location) for part in asked]
    prompt = "\n\n".join([*texts[:1], *(text.strip() for text in texts[1:])])
    draft = Draft([*_history(fields, notes), Turn("user", prompt)])
    _add_answer(draft, fields, bool(asked), notes)
    return draft


def _unasked(fields: Fields) -> Exception:
    """Return the error to raise about an item without a question and without a picture."""
    if fields.has("caption") and not _has_answer(fields):
        return fields.location.error(
            fields.named("caption")[0].name,
            "is a caption, but the item names no picture; name it in 'image'",
        )
    return missing("question", fields)


def missing(meaning: str, fields: Fields) -> Exception:
    """Return the error to raise about a field that is missing or empty."""
    names = MEANINGS[meaning]
    empty = fields.has_any_name(meaning)
    if empty is not None:
        return fields.location.error(
            empty.name,
            f"is {_shown(empty.value)}; write a text that is not empty, or leave the item out",
        )
    return fields.location.error(
        names[0],
        f"missing; give it one of the names {', '.join(names[:6])} (the item has"
        f" {', '.join(map(repr, fields.record)) or 'no fields'})",
    )


def _has_answer(fields: Fields) -> bool:
    return any(fields.has(meaning) for meaning in ("answer", "place", "label"))


def _only_text(fields: Fields) -> Field:
    require_no_speaker(fields)
    found = fields.take("text")
    if found is None:
        empty = fields.has_any_name("text") or fields.has_any_name("question")
        raise fields.location.error(
            empty.name if empty else "instruction",
            "is empty; expected text that is not empty"
            if empty
            else "missing; an item needs instruction and output, conversations, or text",
        )
    return found


def _messages(prompt: Field, fields: Fields, notes: Notes) -> Draft:
    """Return the turns of a prompt that is a list of messages, and of its completion."""
    location = fields.location
    completion = fields.take("answer")
    if completion is None:
        raise missing("answer", fields)
    entries = completion.value
    if not isinstance(entries, list):
        entries = [{"role": "assistant", "content": text_of(completion, location)}]
    before = read_turns(prompt, location, notes, open_end=True)
    whole = read_turns(Field(prompt.name, [*prompt.value, *entries]), location, notes)
    asked = len(before.turns)
    turns = [
        Turn(turn.role, turn.text, turn.learned and index >= asked)
        for index, turn in enumerate(whole.turns)
    ]
    return Draft(turns, whole.pictures, fields.take("options"), Field(completion.name, None))


def _history(fields: Fields, notes: Notes) -> list[Turn]:
    """Return the earlier turns: pairs of a question and its answer, or objects with a speaker."""
    history = fields.take("history")
    if history is None:
        return []
    value = history.value
    if isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
        turns = read_turns(history, fields.location, notes, open_end=True).turns
        if turns[-1].role != "assistant":
            raise fields.location.error(history.name, "the last turn must be the assistant's")
        return turns
    turns = []
    for pair in value if isinstance(value, list) else [None]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(_is_words(p) for p in pair):
            raise fields.location.error(
                history.name, "expected a list of pairs, each a question and its answer"
            )
        turns += [Turn("user", pair[0]), Turn("assistant", pair[1].strip())]
    return turns


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _add_answer(draft: Draft, fields: Fields, asked: bool, notes: Notes) -> None:
    """Add the answer's turn to a draft, and what its options are read from."""
    draft.options = fields.take("options") or fields.take_columns()
    answer, place = answer_field(fields, notes), fields.take("place")
    if answer is None and place is None:
        answer = fields.take("label")
    if answer is None and place is None and not asked:
        answer = fields.take("caption") or _text_of_picture(fields)
    if answer is not None:
        answer = Field(answer.name, one_answer(answer, fields.location, notes))
        if isinstance(answer.value, ClassName) and draft.options is None:
            draft.options = Field(answer.name, list(answer.value.names))
    draft.answer, draft.place = answer or place, place if answer else None
    if draft.answer is None:
        raise missing("answer", fields)
    if draft.options is None:
        require_open(draft.answer, draft.place or (None if answer else place), fields)
        text = text_of(draft.answer, fields.location)
    else:
        require_clear_place(draft.options, answer, place, fields.location)
        text = str(draft.answer.value)
    draft.turns.append(Turn("assistant", text.strip()))


def _text_of_picture(fields: Fields) -> Field | None:
    """Return the text of a picture as its caption, unless the item is a question without answer."""
    if any(plain_name(field.name) == "question_id" for field in fields.fields):
        return None
    require_no_speaker(fields)
    return fields.take("text")


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)
