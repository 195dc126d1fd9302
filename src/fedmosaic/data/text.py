"""Text without images: instruction data (Alpaca, Dolly, Aya and kin), conversations, and plain public text."""

from __future__ import annotations

import re
from pathlib import Path

from fedmosaic.data.example import Example, Turn
from fedmosaic.data.llava_json import CONVERSATION_FIELDS, conversation_example
from fedmosaic.data.options import match_option
from fedmosaic.data.records import FileExamples, Place, Record, read_records, read_text_file
from fedmosaic.errors import DataError

# The names under which the well-known instruction sets keep the same three things.
INSTRUCTION_FIELDS = ("instruction", "prompt", "question", "inputs")
INPUT_FIELDS = ("input", "context")
OUTPUT_FIELDS = ("output", "response", "completion", "answer", "targets")


def read_text(path: Path, *, limit: int | None = None, seed: int | None = None) -> FileExamples:
    """The examples of a text file.

    - ``.json``, ``.jsonl``: items with ``instruction``, optional ``input`` and ``output`` (or the names other sets give
      them: ``INSTRUCTION_FIELDS``, ``INPUT_FIELDS``, ``OUTPUT_FIELDS``), items with ``conversations``, or items with
      only ``text``.
    - ``.txt``: texts separated by blank lines, or one a line where there are no blank lines.

    A text alone becomes a single assistant turn: something to read, with no question.

    Args:
        limit: keep this many items (default all): the first ones, or with ``seed`` a seeded sample in file order.

    Raises:
        DataError: naming the file, the item and the field.
    """
    records = _paragraphs(path) if path.suffix == ".txt" else read_records(path)
    return FileExamples.read(path, records, text_example, limit, seed)


def text_example(record: Record, place: Place) -> Example:
    """One item as an Example: the instruction and, after a blank line, its input are the user's turn.

    Raises:
        DataError: naming the file, the item and the field.
    """
    if any(field in record for field in CONVERSATION_FIELDS):
        return conversation_example(record, place, folders=[place.path.parent])
    if not any(field in record for field in INSTRUCTION_FIELDS):
        if "text" not in record:
            raise place.error(
                "instruction",
                "missing; an item needs instruction and output, conversations, or text",
            )
        return Example(place.id, (Turn("assistant", _text(record, ("text",), place)),))
    question = _text(record, INSTRUCTION_FIELDS, place)
    context = next((record[name] for name in INPUT_FIELDS if record.get(name)), "")
    if not isinstance(context, str):
        raise place.error("input", "expected text")
    if context.strip():
        question = f"{question}\n\n{context.strip()}"
    answer = _text(record, OUTPUT_FIELDS, place)
    options = tuple(str(option) for option in record.get("options") or ())
    if options:
        index = match_option(answer, options)
        if index is None:
            raise place.error(
                "options", f"the answer {answer!r} is not among {', '.join(map(repr, options))}"
            )
        answer = options[index]
    return Example(place.id, (Turn("user", question), Turn("assistant", answer)), options=options)


def _text(record: Record, fields: tuple[str, ...], place: Place) -> str:
    field = next((name for name in fields if name in record), None)
    if field is None:
        raise place.error(fields[0], "missing")
    value = record[field]
    if not isinstance(value, str) or not value.strip():
        raise place.error(field, "expected text that is not empty")
    return value.strip()


def _paragraphs(path: Path) -> list[Record]:
    text = read_text_file(path).strip()
    blocks = re.split(r"\n\s*\n", text)
    if len(blocks) == 1:
        blocks = text.split("\n")
    texts = [block.strip() for block in blocks if block.strip()]
    if not texts:
        raise DataError(f"{path} holds no text")
    return [{"text": block} for block in texts]
