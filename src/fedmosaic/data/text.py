"""Read text without images: instruction data, conversations and plain text."""

from __future__ import annotations

import re
from pathlib import Path

from fedmosaic.data.example import Example, Turn
from fedmosaic.data.llava_json import CONVERSATION_FIELDS, conversation_example
from fedmosaic.data.options import match_option
from fedmosaic.data.records import (
    FileExamples,
    Record,
    RecordLocation,
    read_records,
    read_text_file,
)
from fedmosaic.errors import DataError

# Field names that well-known instruction sets (Alpaca, Dolly, Aya, ...) use for the same content.
INSTRUCTION_FIELDS = ("instruction", "prompt", "question", "inputs")
INPUT_FIELDS = ("input", "context")
OUTPUT_FIELDS = ("output", "response", "completion", "answer", "targets")


def read_text(path: Path, *, limit: int | None = None, seed: int | None = None) -> FileExamples:
    """Return the examples of a text file.

    - ``.json``, ``.jsonl``: items with ``instruction``, optional ``input``, and ``output`` (or the
      names in ``INSTRUCTION_FIELDS``, ``INPUT_FIELDS`` and ``OUTPUT_FIELDS``); items with
      ``conversations``; or items with ``text`` only.
    - ``.txt``: texts separated by blank lines, or one text a line if there are no blank lines.

    Text without a question becomes an example of one assistant turn.

    Args:
        path: the file.
        limit: the most items to take; default None, all.
        seed: draws a random sample of ``limit`` items; default None, the first ones.

    Raises:
        DataError: the file or an item is malformed; the message names file, item and field.
    """
    records = _paragraphs(path) if path.suffix == ".txt" else read_records(path)
    return FileExamples.read(path, records, text_example, limit, seed)


def text_example(record: Record, location: RecordLocation) -> Example:
    """Make the example of one item.

    The user's turn is the instruction and, after a blank line, its input.

    Args:
        record: the item.
        location: where it is, for error messages.

    Raises:
        DataError: a field is missing or wrong; the message names file, item and field.
    """
    if any(field in record for field in CONVERSATION_FIELDS):
        return conversation_example(record, location, folders=[location.path.parent])
    if not any(field in record for field in INSTRUCTION_FIELDS):
        if "text" not in record:
            raise location.error(
                "instruction",
                "missing; an item needs instruction and output, conversations, or text",
            )
        return Example(location.id, (Turn("assistant", _text(record, ("text",), location)),))
    question = _text(record, INSTRUCTION_FIELDS, location)
    context = next((record[name] for name in INPUT_FIELDS if record.get(name)), "")
    if not isinstance(context, str):
        raise location.error("input", "expected text")
    if context.strip():
        question = f"{question}\n\n{context.strip()}"
    answer = _text(record, OUTPUT_FIELDS, location)
    options = tuple(str(option) for option in record.get("options") or ())
    if options:
        index = match_option(answer, options)
        if index is None:
            raise location.error(
                "options", f"the answer {answer!r} is not among {', '.join(map(repr, options))}"
            )
        answer = options[index]
    return Example(
        location.id, (Turn("user", question), Turn("assistant", answer)), options=options
    )


def _text(record: Record, fields: tuple[str, ...], location: RecordLocation) -> str:
    field = next((name for name in fields if name in record), None)
    if field is None:
        raise location.error(fields[0], f"missing; give it one of the names {', '.join(fields)}")
    value = record[field]
    if not isinstance(value, str) or not value.strip():
        raise location.error(field, "expected text that is not empty")
    return value.strip()


def _paragraphs(path: Path) -> list[Record]:
    text = read_text_file(path).strip()
    blocks = re.split(r"\n\s*\n", text)
    if len(blocks) == 1:
        blocks = text.split("\n")
    texts = [block.strip() for block in blocks if block.strip()]
    if not texts:
        raise DataError(f"{path} holds no text; it must have at least one line")
    return [{"text": block} for block in texts]
