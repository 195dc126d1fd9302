r"""Read LLaVA-style JSON, the format of DRAKE, HFLB and LLaVA-Instruct.

An item, and the folder layout of DRAKE and HFLB (k counts the subsets of a dataset)::

    {"id": "17", "image": "images/a.jpg" or ["images/a.jpg", ...],
     "conversations": [{"from": "human", "value": "<image>\nHow many? Choice list:[one, two]"},
                       {"from": "gpt", "value": "two"}]}

    <root>/<Dataset>/{train,test}/dataset-<k>.json
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from fedmosaic.data.example import IMAGE_MARK, Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.data.options import match_option, options_in_prompt
from fedmosaic.data.records import FileExamples, Record, RecordLocation, read_records

CONVERSATION_FIELDS = ("conversations", "messages", "conversation")
_ROLES: dict[str, Literal["user", "assistant", "system"]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
}


def drake_file(root: Path, dataset: str, subset: int, split: Literal["train", "test"]) -> Path:
    """Return the path of one split of a dataset's subset in the layout of DRAKE and HFLB."""
    return root / dataset / split / f"dataset-{subset}.json"


def read_llava(
    path: Path, *, roots: Sequence[Path] = (), limit: int | None = None, seed: int | None = None
) -> FileExamples:
    """Return the examples of a LLaVA-style ``.json`` or ``.jsonl`` file.

    Image files are located here and read later, when they are needed. An image path is searched for
    in each of ``roots`` in order and then in the folder of the file. If a path contains the name of
    a root's own folder (``dataset/VSR/images/a.jpg`` for the root ``data/DRAKE/VSR``), the part
    after that name is tried, too. A file that is not found is taken to be in the first root;
    :func:`fedmosaic.data.check.check` reports it.

    Args:
        path: the file.
        roots: folders that image paths may start from; default none but the file's own.
        limit: the most items to take; default None, all.
        seed: draws a random sample of ``limit`` items; default None, the first ones.

    Raises:
        DataError: the file or an item is malformed; the message names file, item and field.
    """
    make = partial(conversation_example, folders=[*roots, path.parent], known={})
    return FileExamples.read(path, read_records(path), make, limit, seed)


def conversation_example(
    record: Record,
    location: RecordLocation,
    folders: Sequence[Path],
    known: dict[str, Image] | None = None,
) -> Example:
    """Make the example of one item.

    If no turn has an image mark, the marks are put at the front of the first user turn, as LLaVA
    does. Otherwise there must be as many marks as images. Options come from the field ``options``
    or ``choices``, or else from the prompt (:func:`fedmosaic.data.options.options_in_prompt`). The
    answer is then spelled as its option is.

    Args:
        record: the item.
        location: where it is, for error messages.
        folders: folders that image paths may start from.
        known: images found so far by their path, extended here. Items often share images, and an
            image that is one object is hashed once. Default None, a table for this item only.

    Raises:
        DataError: a field is missing or wrong; the message names file, item and field.
    """
    turns = _turns(record, location)
    images = _images(record, location, folders, {} if known is None else known)
    turns = _mark_images(turns, len(images), location)
    options = _options(record, location, turns)
    if options:
        option = options[match_option(turns[-1].text, options) or 0]
        turns[-1] = Turn("assistant", option)
    return Example(location.id, tuple(turns), images, options)


def _turns(record: Record, location: RecordLocation) -> list[Turn]:
    field = next((name for name in CONVERSATION_FIELDS if name in record), None)
    if field is None:
        raise location.error(
            "conversations",
            f"missing; give the turns one of the names {', '.join(CONVERSATION_FIELDS)}",
        )
    entries = record[field]
    if not isinstance(entries, list) or not entries:
        raise location.error(
            field, "expected a list of turns, with at least a question and an answer"
        )
    turns: list[Turn] = []
    system: list[Turn] = []
    preface = ""
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise location.error(field, f"turn {number} is not an object with 'from' and 'value'")
        role = _ROLES.get(str(entry.get("from", entry.get("role", ""))).lower())
        if role is None:
            raise location.error(
                field, f"turn {number} has no known speaker; 'from' must be 'human' or 'gpt'"
            )
        text = _turn_text(entry.get("value", entry.get("content")))
        if text is None:
            raise location.error(field, f"turn {number} has no text in 'value'")
        if role == "system" and not turns:
            system = [Turn("system", "\n".join([*(t.text for t in system), text.strip()]))]
            continue
        if role == "system":
            preface += text.strip() + "\n"
            continue
        if role != ("user", "assistant")[len(turns) % 2]:
            raise location.error(
                field, f"turn {number} is the {role}'s, but turns must alternate, the user's first"
            )
        turns.append(Turn(role, preface + text if role == "user" else text.strip()))
        preface = ""
        if role == "assistant" and not turns[-1].text:
            raise location.error(
                field, f"turn {number}, an answer, is empty; write an answer or leave the item out"
            )
    if len(turns) % 2 or not turns:
        raise location.error(field, "the last turn must be the assistant's answer")
    return [*system, *turns]


def _turn_text(value: Any) -> str | None:
    """Return a turn's text, given as text or as a list of text and image parts; else None."""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        return None
    texts = []
    for part in value:
        if isinstance(part, dict) and part.get("type") in ("image", "image_url"):
            texts.append(IMAGE_MARK)
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            return None
    return "".join(texts)


def _images(
    record: Record, location: RecordLocation, folders: Sequence[Path], known: dict[str, Image]
) -> tuple[Image, ...]:
    field = "images" if "images" in record and "image" not in record else "image"
    value = record.get(field)
    if value is None or value == "":
        return ()
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise location.error(field, "expected a path or a list of paths")
    for name in names:
        if name not in known:
            known[name] = Image(_locate(name, folders))
    return tuple(known[name] for name in names)


def _locate(name: str, folders: Sequence[Path]) -> Path:
    path = Path(name)
    candidates = [folder / path for folder in folders]
    for folder in folders:
        if folder.name in path.parts[:-1]:
            candidates.append(folder.joinpath(*path.parts[path.parts.index(folder.name) + 1 :]))
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def _mark_images(turns: list[Turn], count: int, location: RecordLocation) -> list[Turn]:
    if any(IMAGE_MARK in turn.text for turn in turns if turn.role != "user"):
        raise location.error("conversations", f"{IMAGE_MARK} marks may be in the user's turns only")
    marks = sum(turn.text.count(IMAGE_MARK) for turn in turns)
    if marks == 0 and count:
        first = next(index for index, turn in enumerate(turns) if turn.role == "user")
        marked = Turn("user", IMAGE_MARK * count + "\n" + turns[first].text)
        return [*turns[:first], marked, *turns[first + 1 :]]
    if marks != count:
        raise location.error(
            "image",
            f"{count} images, but {marks} {IMAGE_MARK} marks in the conversation;"
            " write one mark for each image, or none",
        )
    return turns


def _options(record: Record, location: RecordLocation, turns: Sequence[Turn]) -> tuple[str, ...]:
    field = next((name for name in ("options", "choices") if record.get(name)), None)
    if field is None:
        return options_in_prompt(turns[-2].text, turns[-1].text)
    value = record[field]
    if not isinstance(value, list) or not all(
        isinstance(option, str | int | float) for option in value
    ):
        raise location.error(field, "expected a list of texts")
    options = tuple(dict.fromkeys(str(option).strip() for option in value))
    if match_option(turns[-1].text, options) is None:
        raise location.error(
            field, f"the answer {turns[-1].text!r} is not among {', '.join(map(repr, options))}"
        )
    return options
