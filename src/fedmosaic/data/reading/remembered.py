"""Remember on disk the examples of large files, so that a run need not read them anew.

An entry holds for the content of the data file, the folders that image paths may start from, and
the code of the reader. It is not used if an image is gone, or if a file has appeared where an image
path would be looked for earlier.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import fedmosaic
from fedmosaic.data.example import Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.data.reading.pictures import Pictures
from fedmosaic.data.records import FileExamples, RecordLocation
from fedmosaic.files import cache_root, write_to_cache
from fedmosaic.memory import no_collection

FEWEST_ITEMS = 2000
"""Smaller files are read in a moment."""

MOST_FILES = 32
"""Of more files the one that was used least recently is removed."""


def recall(path: Path, folders: Sequence[Path]) -> FileExamples | None:
    """Return the examples of a file if they are remembered and still hold; else None."""
    entry = _entry(path, folders)
    try:
        if entry is None:
            return None
        with no_collection():
            content = json.loads(entry.read_bytes())
            if not all(map(os.path.isfile, content["images"])):
                return None
            if any(map(os.path.isfile, content["absent"])):
                return None
            found = _examples(path, content)
        os.utime(entry)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None  # a damaged entry is as good as none
    return found


def remember(examples: FileExamples, path: Path, pictures: Pictures) -> None:
    """Remember the examples of a file, if it is large and all their images are files.

    Args:
        examples: all examples of the file.
        path: the file.
        pictures: found the images.
    """
    if len(examples) < FEWEST_ITEMS:
        return
    images = {image: None for example in examples for image in example.images}
    numbers = {image: number for number, image in enumerate(images)}
    if not all(isinstance(image.source, Path) and image.source.is_file() for image in images):
        return
    entry = _entry(path, pictures.folders)
    if entry is None:
        return
    content = {
        "notes": examples.notes,
        "images": [str(image.source) for image in images],
        "absent": sorted(pictures.passed_over),
        "items": [
            _item(example, location, numbers)
            for example, location in zip(examples, examples.locations, strict=True)
        ],
    }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    write_to_cache(entry, text, MOST_FILES)


def _entry(path: Path, folders: Sequence[Path]) -> Path | None:
    """Return the file of the cache for a data file; None for what is no file of items."""
    if not path.is_file() or path.suffix.lower() == ".parquet":
        return None
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16))
    except OSError:  # the reader says what is wrong with the file
        return None
    for folder in folders:
        digest.update(f"{folder}\0{folder.resolve()}\0".encode())
    digest.update(_reader_version())
    return cache_root() / "examples" / f"{digest.hexdigest()}.json"


@cache
def _reader_version() -> bytes:
    """Return a hash of the code that makes examples."""
    digest = hashlib.blake2b(fedmosaic.__version__.encode(), digest_size=16)
    data = Path(__file__).parents[1]
    for source in sorted([*data.glob("reading/*.py"), *data.glob("options/*.py")]):
        digest.update(source.read_bytes())
    return digest.digest()


def _item(example: Example, location: RecordLocation, numbers: dict[Image, int]) -> list[Any]:
    turns = [[turn.role, turn.text, turn.learned] for turn in example.turns]
    images = [numbers[image] for image in example.images]
    choice = [example.options, example.choice, example.spellings] if example.options else []
    return [example.id, location.index, location.images, turns, images, *choice]


def _examples(path: Path, content: dict[str, Any]) -> FileExamples:
    images = [Image(Path(name)) for name in content["images"]]
    locations, examples = [], []
    for name, index, field, turns, numbers, *choice in content["items"]:
        locations.append(RecordLocation(path, index, name, field))
        options, place, spellings = choice or ((), None, ())
        examples.append(
            Example(
                name,
                tuple([Turn(*turn) for turn in turns]),
                tuple([images[number] for number in numbers]),
                tuple(options),
                place,
                tuple(spellings),
            )
        )
    return FileExamples.build(locations, examples, content["notes"])
