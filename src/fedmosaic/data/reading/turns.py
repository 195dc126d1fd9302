"""Read the turns of a conversation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fedmosaic.data.example import IMAGE_MARK, Turn
from fedmosaic.data.reading.names import looks_like_picture, why_refused
from fedmosaic.data.reading.notes import Notes
from fedmosaic.data.reading.values import Field, absent, blank, kind_of
from fedmosaic.data.records import RecordLocation

Role = Literal["user", "assistant", "system"]
SPEAKERS: dict[str, Role] = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "model", "bot", "chatgpt"), "assistant"),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Name of a speaker, in lower case -> role."""

_SPEAKER_KEYS = ("from", "role", "speaker")
_TEXT_KEYS = ("value", "content", "text", "parts")
_MASK_KEYS = ("loss", "weight", "train", "training", "learn", "trainable")
_PICTURES = ("image", "images", "path", "url", "image_url", "image_path")
_IMAGE_KEYS = (*_PICTURES, "source", "base64")
# Names of question and answer in an object that holds both.
_PAIRS: tuple[tuple[str, str], ...] = (
    *(("user", "assistant"), ("human", "assistant"), ("human", "gpt"), ("input", "output")),
    *(("question", "answer"), ("instruction", "output"), ("query", "response")),
)


@dataclass
class ReadTurns:
    """Hold the turns of an item, and what its image parts name.

    Attributes:
        turns: the turns.
        pictures: value of each image part, in the sequence of the marks; of a part that names no
            picture its place among the item's images, or None.
    """

    turns: list[Turn] = field(default_factory=list)
    pictures: list[Any] = field(default_factory=list)


def read_turns(
    source: Field, location: RecordLocation, notes: Notes, *, open_end: bool = False
) -> ReadTurns:
    """Return the turns of a field: objects with a speaker and a text.

    Args:
        source: the field; a list, or a JSON list as text.
        location: the item, for messages.
        notes: takes what is to be said about the turns.
        open_end: the last turn may be the user's.

    Raises:
        DataError: the turns are malformed, do not alternate, or do not end with an answer.
    """
    found = ReadTurns()
    for number, entry in enumerate(_entries(source, location)):
        if not isinstance(entry, dict):
            raise location.error(
                source.name,
                f"turn {number} is {kind_of(entry)}, not an object with 'from' and 'value'",
            )
        turn = _turn(RawTurn(entry, number, source.name, location, notes), found.pictures)
        _append(found.turns, turn, number, source.name, location)
    if not open_end and (not found.turns or found.turns[-1].role != "assistant"):
        raise location.error(source.name, "the last turn must be the assistant's answer")
    if not open_end and not found.turns[-1].learned:
        raise location.error(
            source.name,
            "the last answer is not to be learned, so the item teaches nothing that is tested; end"
            " it with an answer that is learned",
        )
    return found


def _entries(source: Field, location: RecordLocation) -> list[Any]:
    entries = source.value
    if isinstance(entries, str) and entries.lstrip().startswith("["):
        try:
            entries = json.loads(entries)
        except json.JSONDecodeError as error:
            raise location.error(source.name, f"is text that is no JSON: {error}") from error
    if not isinstance(entries, list) or not entries:
        raise location.error(
            source.name, "expected a list of turns, with at least a question and an answer"
        )
    return [turn for entry in entries for turn in _turns_of_pair(entry)]


def _turns_of_pair(entry: Any) -> list[Any]:
    """Return the turns of an object that holds a question and its answer; of another, itself."""
    if not isinstance(entry, dict) or any(key in entry for key in _SPEAKER_KEYS):
        return [entry]
    pair = next((pair for pair in _PAIRS if set(pair) <= set(entry)), None)
    if pair is None:
        return [entry]
    system = [{"role": "system", "content": entry["system"]}] if entry.get("system") else []
    rest = {name: value for name, value in entry.items() if name not in (*pair, "system")}
    question, answer = ({"content": entry[name]} for name in pair)
    return [*system, {**rest, "role": "user", **question}, {"role": "assistant", **answer}]


@dataclass(frozen=True)
class RawTurn:
    """Hold one turn as the file has it, with what messages about it need."""

    values: dict[str, Any]
    number: int
    field: str
    location: RecordLocation
    notes: Notes

    def error(self, message: str) -> Exception:
        """Return the error to raise about this turn."""
        return self.location.error(self.field, f"turn {self.number}{message}")


def _append(
    turns: list[Turn], turn: Turn, number: int, name: str, location: RecordLocation
) -> None:
    """Append a turn that may follow the others; system turns at the beginning become one."""
    last = turns[-1] if turns else None
    if turn.role == "system":
        if last is not None and last.role != "system":
            raise location.error(
                name,
                f"turn {number} is a system turn after the beginning, which most models do not"
                " take; write its text into the next question",
            )
        if last is not None:
            turns[-1] = Turn("system", f"{last.text}\n{turn.text}")
            return
    elif turn.role != ("assistant" if last is not None and last.role == "user" else "user"):
        raise location.error(
            name,
            f"turn {number} is the {turn.role}'s, but turns must alternate, the user's first;"
            " join turns of one speaker",
        )
    turns.append(turn)


def _turn(entry: RawTurn, pictures: list[Any]) -> Turn:
    role = _role(entry)
    learned = _learned(entry, role)
    text = _text(entry, pictures)
    used = [_first(entry, _SPEAKER_KEYS), _first(entry, _TEXT_KEYS), *_MASK_KEYS]
    for name, value in entry.values.items():
        if name in used or absent(value):
            continue
        _check_no_other(entry, name)
        reason = why_refused(name.casefold(), value)
        is_picture = name.casefold() in _PICTURES or looks_like_picture(value)
        if reason is not None or is_picture:
            why = reason or "pictures belong into the item's 'images', or into parts of the text"
            raise entry.location.error(name, f"turn {entry.number} of {entry.field!r}: {why}")
        entry.notes.unused(f"{entry.field}.{name}", entry.location)
    if role == "user":
        return Turn(role, text)
    if blank(text):
        which = "an answer" if role == "assistant" else "a system turn"
        raise entry.error(f", {which}, is empty; write a text or leave the item out")
    return Turn(role, text.strip(), learned)


def _check_no_other(entry: RawTurn, name: str) -> None:
    """Raise DataError if a key gives the turn a second speaker or text, unlike the first."""
    for keys in (_SPEAKER_KEYS, _TEXT_KEYS):
        used = _first(entry, keys)
        if name not in keys or entry.values[name] == entry.values[used]:
            continue
        if keys is _SPEAKER_KEYS and SPEAKERS.get(_lower(entry.values[name])) == _role(entry):
            continue
        raise entry.location.error(
            name,
            f"turn {entry.number} of {entry.field!r} has {used!r} too, with another value; remove"
            " one of them",
        )


def _lower(value: Any) -> str:
    return str(value).strip().casefold()


def _first(entry: RawTurn, keys: Sequence[str]) -> str:
    """Return the first of these keys that a turn has a value for."""
    present = [key for key in keys if entry.values.get(key) is not None]
    return next((key for key in present if not absent(entry.values[key])), (*present, keys[0])[0])


def _role(entry: RawTurn) -> Role:
    value = entry.values.get(_first(entry, _SPEAKER_KEYS))
    role = SPEAKERS.get(_lower(value))
    if role is None:
        raise entry.error(
            f" has no known speaker ({value!r}); 'from' must be 'human', 'gpt' or 'system', and"
            " turns of tools and functions are not supported"
        )
    return role


def _learned(entry: RawTurn, role: Role) -> bool:
    """Return whether a turn is learned, by its mask; without one, an answer is."""
    learned = True
    for key in _MASK_KEYS:
        if absent(entry.values.get(key)):
            continue
        value = entry.values[key]
        if value not in (0, 1):
            raise entry.location.error(
                key,
                f"turn {entry.number} of {entry.field!r} has the {key} {value!r}; only 0 and 1"
                " (false and true) are supported",
            )
        if role != "assistant" and value:
            raise entry.location.error(
                key, f"turn {entry.number} of {entry.field!r}: only answers can be learned"
            )
        learned = learned and bool(value)
    return learned


def _text(entry: RawTurn, pictures: list[Any]) -> str:
    value = entry.values.get(_first(entry, _TEXT_KEYS))
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, list):
        raise entry.error(" has no text in 'value'")
    return "".join(_part(part, entry, pictures) for part in value)


def _part(part: Any, entry: RawTurn, pictures: list[Any]) -> str:
    """Return the text of one part of a turn; of an image the mark."""
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise entry.error(f" has a part that is {kind_of(part)}")
    kind = str(part.get("type", "")).casefold()
    present = {name: value for name, value in part.items() if not absent(value) and name != "type"}
    if kind in ("image", "image_url", "input_image", "img") or (
        not kind and set(present) & set(_IMAGE_KEYS)
    ):
        pictures.append(_picture(present, entry))
        text = IMAGE_MARK
    elif kind in ("text", "input_text", "output_text") or (not kind and "text" in part):
        text = present.pop("text", None) or present.pop("content", None) or ""
        if not isinstance(text, str):
            raise entry.error(" has a part whose text is no text")
    else:
        what = f"of the kind {kind!r}" if kind else f"with the keys {list(part)}"
        raise entry.error(f" has a part {what}; only text and images are supported")
    for name, value in present.items():
        reason = why_refused(name.casefold(), value)
        if looks_like_picture(value):
            reason = "names a picture, but is not a field that is read; call it 'image'"
        if reason is not None:
            raise entry.location.error(name, f"turn {entry.number} of {entry.field!r}: {reason}")
        entry.notes.unused(f"{entry.field}.{name}", entry.location)
    return text


def _picture(present: dict[str, Any], entry: RawTurn) -> Any:
    """Take the picture that an image part names, or its place among the item's images."""
    named = [name for name in _IMAGE_KEYS if name in present]
    if len(named) > 1:
        raise entry.error(f" has an image part with {' and '.join(map(repr, named))}")
    if not named:
        place = present.pop("index", None)
        return place if isinstance(place, int) and not isinstance(place, bool) else None
    present.pop("index", None)
    value = present.pop(named[0])
    if isinstance(value, Mapping) and set(value) <= {"url", "detail"}:
        return value.get("url")
    if isinstance(value, Mapping) and {"data", "media_type"} <= set(value):
        return f"data:{value['media_type']};base64,{value['data']}"
    return value
