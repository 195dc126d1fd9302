"""Read Parquet files and the folders that Hugging Face ``datasets`` saves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from fedmosaic.data.image import StoredImage, TableCell, content_key
from fedmosaic.data.reading.text_files import read_text_file
from fedmosaic.data.records import Record
from fedmosaic.errors import DataError


class ClassName(str):
    """Hold the name of a class, with the names of all classes of its column.

    Attributes:
        names: the names, in the sequence of their numbers.
    """

    names: tuple[str, ...]

    @classmethod
    def of(cls, number: int, names: Sequence[str]) -> ClassName:
        """Return the name of a class by its number."""
        found = cls(names[number])
        found.names = tuple(names)
        return found


def parquet_records(path: Path) -> list[Record]:
    """Return the rows of a Parquet file; the bytes of pictures are read when they are needed.

    Raises:
        DataError: the file is missing or no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        binary = [field.name for field in file.schema_arrow if _is_picture(field.type)]
        others = [field.name for field in file.schema_arrow if field.name not in binary]
        table = file.read(columns=others)
        present = {name: _nulls(file.read(columns=[name]).column(0)) for name in binary}
    except FileNotFoundError as error:
        raise DataError(f"data file {path} does not exist") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}") from error
    rows = table.to_pylist() if others else [{} for _ in range(file.metadata.num_rows)]
    records = _named_classes(rows, file.schema_arrow.metadata)
    for name, is_null in present.items():
        for index, record in enumerate(records):
            if not is_null[index]:
                record[name] = _stored(path, name, index)
    return records


def dataset_records(folder: Path) -> list[Record]:
    """Return the rows of a folder that ``datasets.Dataset.save_to_disk`` wrote.

    Raises:
        DataError: a file is missing or no Arrow file.
    """
    records: list[Record] = []
    for path in _arrow_files(folder):
        table = _arrow_table(path, stamp(path))
        binary = [field.name for field in table.schema if _is_picture(field.type)]
        rows = table.drop_columns(binary).to_pylist() if len(binary) < table.num_columns else []
        rows = rows or [{} for _ in range(table.num_rows)]
        for name in binary:
            is_null = _nulls(table.column(name))
            for index, record in enumerate(rows):
                if not is_null[index]:
                    record[name] = _stored(path, name, index)
        records += _named_classes(rows, table.schema.metadata)
    return records


def _arrow_files(folder: Path) -> list[Path]:
    state = folder / "state.json"
    try:
        names = [entry["filename"] for entry in json.loads(read_text_file(state))["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{state} does not name the data files of the data set") from error
    return [folder / Path(name).name for name in names]


def stamp(path: Path) -> tuple[int, int]:
    """Return what changes when a file is written anew: its size and the time of the change.

    Raises:
        DataError: there is no such file.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"data file {path} does not exist") from error
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=16)
def _arrow_table(path: Path, version: tuple[int, int]) -> Any:
    import pyarrow as pa

    try:
        return pa.ipc.open_stream(pa.memory_map(str(path))).read_all()
    except FileNotFoundError as error:
        raise DataError(f"data file {path} does not exist") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a readable Arrow file: {error}") from error


def _is_picture(kind: Any) -> bool:
    """Return whether a column holds bytes, or objects or lists of them."""
    import pyarrow as pa

    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _is_picture(kind.value_type)
    if pa.types.is_struct(kind):
        return any(_is_picture(kind.field(index).type) for index in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _nulls(column: Any) -> list[bool]:
    found: list[bool] = column.is_null().to_pylist()
    return found


def _named_classes(records: list[Record], metadata: dict[bytes, bytes] | None) -> list[Record]:
    """Replace the numbers of classes by their names, as the data set describes them."""
    described = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    features = described.get("info", {}).get("features", {})
    for name, feature in features.items():
        names = feature.get("names") if isinstance(feature, dict) else None
        if not isinstance(names, list) or feature.get("_type") != "ClassLabel":
            continue
        for record in records:
            number = record.get(name)
            if isinstance(number, int) and 0 <= number < len(names):
                record[name] = ClassName.of(number, names)
    return records


def _stored(path: Path, column: str, row: int) -> Any:
    """Return the pictures of a cell; one, or a list where the cell holds a list."""
    value = _cell_value(path, column, row)

    def picture(index: int | None, entry: Any) -> Any:
        if isinstance(entry, dict):
            if entry.get("bytes") is None:
                return entry.get("path")
        elif not isinstance(entry, bytes):
            return entry
        return stored_picture(TableCell(path, column, row, index))

    if isinstance(value, list):
        return [picture(index, entry) for index, entry in enumerate(value)]
    return picture(None, value)


def stored_picture(cell: TableCell, key: str | None = None) -> StoredImage:
    """Return the picture of a cell, which is read when it is needed.

    Args:
        cell: where the picture is.
        key: what the :func:`~fedmosaic.data.image.content_key` of the encoded picture begins with;
            None: not compared.
    """
    place = "" if cell.picture is None else f", picture {cell.picture}"
    name = f"{cell.table}: row {cell.row}, column {cell.column!r}{place}"

    def content() -> bytes:
        try:
            value = _cell_value(cell.table, cell.column, cell.row)
            part = value if cell.picture is None else value[cell.picture]
            found = part["bytes"] if isinstance(part, dict) else part
        except (LookupError, TypeError, ValueError):
            found = None
        if not isinstance(found, bytes) or not content_key(found).startswith(key or ""):
            raise DataError(
                f"{name}: another picture, or none, is there now; the table has changed since the"
                " items that name its cells were written: write them anew"
            )
        return found

    return StoredImage(name, content, cell)


def _cell_value(path: Path, column: str, row: int) -> Any:
    read = _parquet_picture if path.suffix.lower() == ".parquet" else _arrow_picture
    return read(path, column, row)


def _arrow_picture(path: Path, column: str, row: int) -> Any:
    return _arrow_table(path, stamp(path)).column(column)[row].as_py()


def _parquet_picture(path: Path, column: str, row: int) -> Any:
    version = stamp(path)
    place = row
    for group, rows in enumerate(_parquet_groups(path, version)):
        if place < rows:
            return _parquet_column(path, version, column, group)[place].as_py()
        place -= rows
    raise DataError(f"{path} has changed: row {row} is gone")


@lru_cache(maxsize=16)
def _parquet_groups(path: Path, version: tuple[int, int]) -> list[int]:
    """Return the numbers of rows of a file's row groups."""
    import pyarrow.parquet as pq

    found = pq.ParquetFile(path).metadata
    return [found.row_group(group).num_rows for group in range(found.num_row_groups)]


@lru_cache(maxsize=2)
def _parquet_column(path: Path, version: tuple[int, int], column: str, group: int) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read_row_group(group, columns=[column]).column(0)
