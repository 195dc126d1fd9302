"""Find the items in the content of a JSON file, whatever holds them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmosaic.data.reading.names import MEANINGS, plain_name
from fedmosaic.errors import DataError

_ITEM_MEANINGS = ("turns", "question", "context", "answer", "text", "caption", "images")
_ITEM_NAMES = {name for meaning in _ITEM_MEANINGS for name in MEANINGS[meaning]}
_PARTS = {name for meaning in ("options", "history", "answer") for name in MEANINGS[meaning]}
_SPEAKERS = ("from", "role", "speaker")


def items_of(path: Path, content: Any) -> Sequence[Any]:
    """Return the items of a whole JSON file.

    They are a list; a list under one key; an object whose keys name the items (pandas' ``index``,
    GQA); columns (pandas' ``columns``, ``split`` and ``list``); captions beside their images
    (COCO); or one item alone.

    Args:
        path: the file, for errors.
        content: what it holds.

    Raises:
        DataError: none of these forms is certain.
    """
    if isinstance(content, list):
        return content
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: expected a list of items, found {type(content).__name__};"
            " put the items in [ ], or one a line in a .jsonl file"
        )
    lists = [key for key, value in content.items() if _holds_items(key, value)]
    if set(lists) == {"images", "annotations"}:
        return _captions(path, content["images"], content["annotations"])
    if len(lists) == 1:
        found: list[Any] = content[lists[0]]
        return found
    if len(lists) > 1:
        raise DataError(
            f"{path}: expected a list of items, found lists under several keys:"
            f" {', '.join(map(repr, lists))}; write a file for each"
        )
    for form in (_of_split, _of_columns, _of_keys):
        items = form(content)
        if items is not None:
            return items
    if _is_item(content):
        return [content]
    raise DataError(
        f"{path}: expected a list of items, found one object with the keys"
        f" {', '.join(map(repr, list(content)[:8]))}; put the items in [ ], or one a line in a"
        " .jsonl file"
    )


def _is_item(value: Any) -> bool:
    return isinstance(value, dict) and any(plain_name(key) in _ITEM_NAMES for key in value)


def _holds_items(key: str, value: Any) -> bool:
    """Return whether a value is a list of items; turns are none, and neither are options."""
    if not isinstance(value, list) or not value or not all(isinstance(v, dict) for v in value):
        return False
    if plain_name(key) in _PARTS:
        return False
    first = value[0]
    turns = any(plain_name(key) in MEANINGS["turns"] for key in first)
    return turns or not any(key in first for key in _SPEAKERS)


def _of_split(content: dict[str, Any]) -> list[Any] | None:
    """Return the rows of ``{"columns": [...], "data": [[...], ...]}``."""
    names, rows = content.get("columns"), content.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not _names(names):
        return None
    if not all(isinstance(row, list) and len(row) == len(names) for row in rows):
        return None
    return [dict(zip(names, row, strict=True)) for row in rows]


def _of_columns(content: dict[str, Any]) -> list[Any] | None:
    """Return the rows of columns: a list under each name, or an object with the same row names."""
    if len(content) < 2 or not _names(content):
        return None
    columns = list(content.values())
    if all(isinstance(column, dict) for column in columns):
        rows = list(columns[0])
        if not rows or any(list(column) != rows for column in columns):
            return None
        columns = [list(column.values()) for column in columns]
    elif not all(isinstance(column, list) for column in columns):
        return None
    if len({len(column) for column in columns}) > 1:
        return None
    return [dict(zip(content, row, strict=True)) for row in zip(*columns, strict=True)]


def _of_keys(content: dict[str, Any]) -> list[Any] | None:
    """Return the items that stand under their ids."""
    if _names(content) or not all(map(_is_item, content.values())):
        return None
    return [
        item if any(plain_name(name) in MEANINGS["id"] for name in item) else {"id": key, **item}
        for key, item in content.items()
    ]


def _names(keys: Any) -> bool:
    """Return whether one of these keys is the name of a field that items have."""
    return any(isinstance(key, str) and plain_name(key) in _ITEM_NAMES for key in keys)


def _captions(path: Path, images: list[Any], annotations: list[Any]) -> list[Any]:
    """Return captions with the files of their images, as COCO has them apart."""
    files = {image.get("id"): image.get("file_name") for image in images}
    found = []
    for index, annotation in enumerate(annotations):
        file = files.get(annotation.get("image_id"))
        if not isinstance(annotation.get("caption"), str) or file is None:
            raise DataError(
                f"{path}: 'annotations' {index} is no caption of one of the 'images'; write a list"
                " of items with 'image' and the text to learn"
            )
        rest = {name: value for name, value in annotation.items() if name != "image_id"}
        found.append({"image": file, **rest})
    return found
