"""Read CSV and tab-separated files, as spreadsheets and pandas write them."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmosaic.data.reading.names import MEANINGS, plain_name
from fedmosaic.data.reading.text_files import read_text_file
from fedmosaic.data.records import Record
from fedmosaic.errors import DataError

CELL_LIMIT = 1 << 30
"""Most characters of a cell; a cell may hold a picture."""

_SEPARATOR_LINE = re.compile(r"\s*\"?sep=(.)\"?[ \t]*\n", re.IGNORECASE)
_LISTS = {
    name for meaning in ("turns", "images", "options", "history") for name in MEANINGS[meaning]
} | {"answers"}


def csv_records(path: Path) -> list[Record]:
    """Return the rows of a CSV (or tab-separated ``.tsv``) file whose first row names the columns.

    An empty cell is left out, and so is ``nan``. A list in the cell of a field that takes lists is
    read, as JSON or as Python writes it; so is a JSON list of objects in any cell.

    Raises:
        DataError: the file is unreadable, has no header, or a row has more cells than columns.
    """
    text = read_text_file(path)
    csv.field_size_limit(CELL_LIMIT)
    named = _SEPARATOR_LINE.match(text)
    start = named.end() if named else 0
    tab = path.suffix.lower() == ".tsv"
    delimiter = named[1] if named else "\t" if tab else _delimiter(text)
    stream = io.StringIO(text, newline="")
    stream.seek(start)
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    names: list[str] = []
    records: list[Record] = []
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if not names:
                names = _columns(path, row)
                continue
            where = f"item {len(records)}, which ends in line {reader.line_num + bool(named)},"
            records.append(_record(path, names, row, where, delimiter))
    except csv.Error as error:
        raise DataError(
            f"{path} is not valid CSV: {error} (line {reader.line_num + bool(named)}); put a cell"
            " that holds quotes into quotes, and double each of its own"
        ) from error
    return records


def _delimiter(text: str) -> str:
    header = next((line for line in io.StringIO(text[: 1 << 16]) if line.strip()), "")
    outside = re.sub(r'"[^"]*"', "", header)
    return max(",;\t|", key=outside.count)


def _columns(path: Path, row: Sequence[str]) -> list[str]:
    names = [name.strip() for name in row]
    repeated = next((name for name in names if name and names.count(name) > 1), None)
    if repeated is not None:
        raise DataError(f"{path}: two columns have the name {repeated!r}; rename one of them")
    return names


def _record(
    path: Path, names: Sequence[str], row: Sequence[str], where: str, delimiter: str
) -> Record:
    if len(row) < len(names) or any(cell.strip() for cell in row[len(names) :]):
        raise DataError(
            f"{path}: {where} has {len(row)} cells for {len(names)} columns; write a cell for each"
            f" column, and put one that contains {delimiter!r} into quotes"
        )
    found: Record = {}
    for name, cell in zip(names, row, strict=False):
        if cell.strip() in ("", "nan", "NaN"):
            continue
        if name in found:
            raise DataError(f"{path}: {where} has texts in two columns without a name; name them")
        found[name] = _cell(plain_name(name), cell)
    return found


def _cell(plain: str, cell: str) -> Any:
    """Return a cell's text, or the list that it holds."""
    inside = cell.strip()
    if inside[:1] not in ("[", "{"):
        return cell
    try:
        value = json.loads(inside)
    except ValueError:
        value = _python_list(inside) if plain in _LISTS else None
    objects = isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)
    )
    return value if value is not None and (plain in _LISTS or objects) else cell


def _python_list(text: str) -> Any:
    """Return a list as Python writes it, ``['a', 'b']``; None of another text."""
    if re.search(r"""['"]\s+['"]""", text):  # numpy's ['a' 'b'], which Python would join
        return None
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, list | dict) else None
