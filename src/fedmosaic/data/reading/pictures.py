"""Find the pictures that an item names."""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from fedmosaic.data.image import Image, StoredImage, TableCell
from fedmosaic.data.reading.tables import stored_picture
from fedmosaic.data.reading.values import Field, absent, kind_of
from fedmosaic.data.records import RecordLocation

_ADDRESS = re.compile(r"^(?:https?|ftp|s3|gs|hf)://", re.IGNORECASE)
_DATA_URI = re.compile(r"^data:(?P<kind>[^,;]*)(?P<more>(?:;[^,;]*)*),", re.IGNORECASE)
# What PNG, JPEG, GIF, WebP, BMP and TIFF files begin with, in base64.
_ENCODED = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkqA", "TU0AK")
_SHORTEST_ENCODED = 80
_LONGEST_PATH = 4096
_MARK_KEY = re.compile(r"<image_?(\d+)>")
CELL_FIELDS = ("table", "column", "row", "picture", "key")
"""Fields of an object that names a picture in a table."""


class Pictures:
    """Find pictures by the values that items give.

    A path is searched for in each of the folders. If it contains the name of a folder
    (``dataset/VSR/images/a.jpg`` for the folder ``data/DRAKE/VSR``), the part after that name is
    tried, too. A file that is not found is taken to be in the first folder;
    :func:`fedmosaic.data.check.check` reports it.

    Args:
        folders: folders that paths may start from.

    Attributes:
        passed_over: places where a path was looked for before the place where it was found.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = tuple(folders)
        # Items often share pictures, and an image that is one object is hashed one time only.
        self._known: dict[str, Image] = {}
        self.passed_over: set[str] = set()

    def of(self, field: Field, location: RecordLocation) -> list[Image]:
        """Return the images of a field: one path, or a list of paths.

        Raises:
            DataError: a value is no picture that can be read here.
        """
        value = _numbered(field.value)
        entries = value if isinstance(value, list) else [value]
        if len(entries) == 1 and isinstance(entries[0], list):
            entries = entries[0]
        return [self.one(entry, field.name, location) for entry in entries]

    def one(self, value: Any, field: str, location: RecordLocation) -> Image:
        """Return the image of one value.

        Args:
            value: a path, a data URI, base64 text, an object with ``path`` or ``bytes``, an object
                that names a cell of a table, or an encoded picture.
            field: the field's name, for messages.
            location: the item, for messages.

        Raises:
            DataError: it is no picture that can be read here.
        """
        if isinstance(value, StoredImage):
            return Image(value)
        if isinstance(value, dict) and "table" in value:
            return self._cell(value, field, location)
        if isinstance(value, dict):
            return self._object(value, field, location)
        if absent(value) or not isinstance(value, str):
            raise location.error(
                field, f"expected a path or a list of paths, found {kind_of(value)}"
            )
        if value not in self._known:
            self._known[value] = self._read(value, field, location)
        return self._known[value]

    def _object(self, value: dict[str, Any], field: str, location: RecordLocation) -> Image:
        present = {name: entry for name, entry in value.items() if not absent(entry)}
        unknown = set(present) - {"path", "bytes", "url", "file_name"}
        paths = [entry for name, entry in present.items() if name != "bytes"]
        content = present.get("bytes")
        if unknown or (not paths and not isinstance(content, str)):
            raise location.error(
                field, f"an image object with {', '.join(map(repr, value))}; it needs a 'path'"
            )
        if content is not None:
            return self.one(content, field, location)
        return self.one(paths[0], field, location)

    def _cell(self, value: dict[str, Any], field: str, location: RecordLocation) -> Image:
        table, column, row = (value.get(name) for name in CELL_FIELDS[:3])
        picture, key = (value.get(name) for name in CELL_FIELDS[3:])
        if (
            not set(value) <= set(CELL_FIELDS)
            or not (isinstance(table, str) and isinstance(column, str) and isinstance(row, int))
            or not isinstance(picture, int | None)
            or not isinstance(key, str | None)
        ):
            raise location.error(
                field,
                f"a picture in a table with {', '.join(map(repr, value))}; it needs the texts"
                " 'table' and 'column' and the number 'row', and may have 'picture' and 'key'",
            )
        path = self._locate(table)
        if not path.is_file():
            raise location.error(field, f"the table {path} does not exist")
        return Image(stored_picture(TableCell(path, column, row, picture), key))

    def _read(self, value: str, field: str, location: RecordLocation) -> Image:
        if _ADDRESS.match(value.strip()):
            raise location.error(
                field,
                f"{value.strip()} is an address, and pictures are not fetched; download the"
                " picture and write its path",
            )
        encoded = _DATA_URI.match(value)
        if encoded or (len(value) >= _SHORTEST_ENCODED and value.startswith(_ENCODED)):
            return Image(self._decode(value, encoded, field, location))
        if len(value) > _LONGEST_PATH or "\0" in value:
            raise location.error(
                field,
                f"a text of {len(value)} characters, {value[:20]!a} …, is neither a path nor a"
                " picture in base64",
            )
        if value.lower().startswith("file:"):
            return Image(self._locate(unquote(urlparse(value).path)))
        return Image(self._locate(value))

    def _decode(
        self, value: str, uri: re.Match[str] | None, field: str, location: RecordLocation
    ) -> StoredImage:
        if uri and ";base64" not in uri["more"].lower():
            raise location.error(field, "a data URI that is not base64; write it as base64")
        try:
            text = value[uri.end() :] if uri else value
            content = base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError) as error:
            raise location.error(field, f"the picture is not valid base64: {error}") from error
        return StoredImage(f"{location.field(field)}: inline picture", partial(bytes, content))

    def _locate(self, name: str) -> Path:
        """Return the file of a path, which may also be written as other systems do."""
        passed: list[str] = []
        for place in self._candidates(name):
            if _is_file(place):
                self.passed_over.update(passed)
                return place
            passed.append(str(place))
        return self.folders[0] / name

    def _candidates(self, name: str) -> Iterator[Path]:
        """Yield the places where the file of a path may be, the likeliest first."""
        names = [name, name.strip(), name.replace("\\", "/"), unquote(name)]
        if name.startswith("~"):
            names.append(os.path.expanduser(name))
        for each in dict.fromkeys(names):
            for folder in self.folders:
                yield folder / each
            parts = Path(each).parts
            for folder in self.folders:
                if folder.name in parts[:-1]:
                    yield folder.joinpath(*parts[parts.index(folder.name) + 1 :])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder that may not be read
        return False


def _numbered(value: Any) -> Any:
    """Return the pictures of an object with marks as keys, as MiniCPM-V has them, in sequence."""
    if not isinstance(value, dict):
        return value
    marks = [_MARK_KEY.fullmatch(key) for key in value]
    numbered = [(int(mark[1]), value[mark[0]]) for mark in marks if mark]
    if not value or len(numbered) < len(value):
        return value
    return [picture for _, picture in sorted(numbered, key=lambda entry: entry[0])]
