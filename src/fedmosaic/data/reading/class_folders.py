"""Read folders of pictures by class: ``cat/1.png``, ``dog/7.png``."""

from __future__ import annotations

from pathlib import Path

from fedmosaic.data.reading.names import looks_like_picture
from fedmosaic.data.reading.tables import ClassName
from fedmosaic.data.records import Record
from fedmosaic.data.split_words import SPLIT_WORDS
from fedmosaic.errors import DataError


def is_class_folder(folder: Path) -> bool:
    """Return whether a folder holds folders of pictures, and no files of its own."""
    entries = _entries(folder)
    return bool(entries) and all(
        entry.is_dir()
        and entry.name.casefold() not in SPLIT_WORDS
        and any(looks_like_picture(file.name) for file in _entries(entry))
        for entry in entries
    )


def class_records(folder: Path) -> list[Record]:
    """Return an item for each picture: the picture, and its folder's name among all of them.

    The classes are those of all parts of the data set: beside ``train`` those of ``test``, too.

    Raises:
        DataError: a folder holds something else than pictures.
    """
    parts = [folder]
    if folder.name.casefold() in SPLIT_WORDS:
        parts = [place for place in _entries(folder.parent) if place.name.casefold() in SPLIT_WORDS]
    names = sorted({entry.name for part in parts if part.is_dir() for entry in _entries(part)})
    records: list[Record] = []
    for place in _entries(folder):
        for file in _entries(place):
            if not looks_like_picture(file.name) or file.is_dir():
                raise DataError(
                    f"{file} is no picture, but stands in a folder of pictures by class; take it"
                    " out, or list the pictures in a metadata.jsonl"
                )
            label = ClassName.of(names.index(place.name), names)
            records.append({"image": str(file.resolve()), "label": label})
    return records


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
