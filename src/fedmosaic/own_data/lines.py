"""Write items of any file as lines of JSON that mean the same wherever the file is.

Pictures are not copied. A path becomes absolute, and a picture in a table becomes the name of its
cell. Each line is read back and compared with the item, so that nothing changes on the way.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from fedmosaic.data.example import Example
from fedmosaic.data.image import Image, StoredImage, content_key
from fedmosaic.data.reading.items import ItemReader
from fedmosaic.data.reading.names import MEANINGS, image_number, plain_name
from fedmosaic.data.reading.pictures import CELL_FIELDS, Pictures
from fedmosaic.data.reading.tables import ClassName
from fedmosaic.data.reading.values import WrittenNumber
from fedmosaic.data.records import Record
from fedmosaic.errors import DataError, FedMosaicError
from fedmosaic.own_data.pool import Item

_PATH_KEYS = ("image", "images", "path", "url", "image_url", "image_path", "file_name")
_KEY_DIGITS = 16
_LINE_ENDS = "\u0085\u2028\u2029"
# No path of a line may need a folder to start from.
_NO_FOLDERS = [Path("data")]


def line_of(item: Item) -> str:
    """Return an item as a line of JSON.

    An item without an id gets the name of its file and its position as its id.

    Raises:
        DataError: the item would be read in another way from the line.
    """
    writer = _Writer(item)
    record = {name: writer.value(value, _is_image_field(name)) for name, value in _whole(item)}
    line = json.dumps(record, ensure_ascii=False)
    for end in _LINE_ENDS:  # those that editors take for the end of a line
        line = line.replace(end, f"\\u{ord(end):04x}")
    try:
        reader = ItemReader(item.location.path, _NO_FOLDERS)
        changed = _difference(item.example, reader.read(json.loads(line), item.location)[0])
    except FedMosaicError as error:
        changed = str(error)
    if changed:
        raise DataError(
            f"{item.location}: would not be read alike from a line of JSON ({changed}); write the"
            " items as JSON with pictures as paths in the field 'images', and divide that file"
        )
    return line


def _whole(item: Item) -> list[tuple[str, Any]]:
    """Return the fields of an item, with its id and the options that its table knows."""
    record: Record = dict(item.record)
    plain = {plain_name(str(name)) for name in record}
    if plain.isdisjoint(MEANINGS["id"]):
        record = {"id": f"{item.location.path.name}:{item.location.index}", **record}
    if plain.isdisjoint(MEANINGS["options"]):
        classes = (value for value in record.values() if isinstance(value, ClassName))
        names = [list(value.names) for value in classes]
        if list(item.example.options) in names:
            record["options"] = list(item.example.options)
    return [(name, _parsed(name, value)) for name, value in record.items()]


def _parsed(name: str, value: Any) -> Any:
    """Return turns that are written as text of JSON as a list, so that their pictures are found."""
    is_text = isinstance(value, str) and value.lstrip().startswith("[")
    if not is_text or plain_name(name) not in MEANINGS["turns"]:
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _is_image_field(name: str) -> bool:
    plain = plain_name(name)
    return plain in MEANINGS["images"] or image_number(plain) is not None


class _Writer:
    """Turn the values of an item into those of JSON."""

    def __init__(self, item: Item) -> None:
        self.location = item.location
        self.pictures = Pictures(item.folders)

    def value(self, value: Any, is_picture: bool) -> Any:
        """Return a value for JSON.

        Args:
            value: the value.
            is_picture: texts in it are pictures.
        """
        if isinstance(value, StoredImage):
            return _cell(value)
        if isinstance(value, dict):
            return {
                str(name): self.value(entry, name in _PATH_KEYS or (is_picture and name != "bytes"))
                for name, entry in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(entry, is_picture) for entry in value]
        if isinstance(value, WrittenNumber):
            return value.written
        if isinstance(value, float) and math.isnan(value):
            return None
        if isinstance(value, str) and is_picture and value.strip():
            return self._path(value)
        if isinstance(value, str):
            return str(value)
        return value if isinstance(value, bool | int | float | None) else str(value)

    def _path(self, text: str) -> str:
        """Return the absolute path of a picture; other texts, such as data URIs, as they are."""
        try:
            source = self.pictures.one(text, "image", self.location).source
        except DataError:
            return text
        return os.path.abspath(source) if isinstance(source, Path) and source.is_file() else text


def _cell(image: StoredImage) -> dict[str, Any]:
    assert image.cell is not None
    cell = image.cell
    key = content_key(image.read())[:_KEY_DIGITS]
    values = (os.path.abspath(cell.table), cell.column, cell.row, cell.picture, key)
    pairs = zip(CELL_FIELDS, values, strict=True)
    return {name: value for name, value in pairs if value is not None}


def _difference(before: Example, after: Example) -> str:
    """Say in which part two examples differ; empty if they are alike."""
    for part in ("turns", "options", "choice", "spellings"):
        if getattr(before, part) != getattr(after, part):
            return f"other {part}"
    alike = [*map(picture_source, before.images)] == [*map(picture_source, after.images)]
    return "" if alike else "other pictures"


def picture_source(image: Image) -> object:
    """Return what two images share that are one file, one cell of a table, or of equal content."""
    source = image.source
    if isinstance(source, Path):
        return os.path.abspath(source)
    if isinstance(source, StoredImage) and source.cell is not None:
        cell = source.cell
        return os.path.abspath(cell.table), cell.column, cell.row, cell.picture
    return image.key
