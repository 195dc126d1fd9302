"""Find the files of a task, and which of them are for testing.

A data file has its test examples in a file of the same name with ``test`` for ``train``: in its
folder (``train.json`` and ``test.jsonl``, ``rivers_train.csv`` and ``rivers_test.csv``), or in a
folder ``test`` next to its folder ``train``. Any kind of data file will do, in any letter case.
Without one, a validation file (``val``, ``valid``, ``validation``, ``dev``) is used for testing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.data.reading.class_folders import is_class_folder
from fedmosaic.data.reading.files import RECORD_TYPES, STATE
from fedmosaic.data.split_words import (
    SPLIT_WORDS,
    TEST_WORDS,
    TRAIN_WORDS,
    VALIDATION_WORDS,
)
from fedmosaic.errors import DataError

METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
"""Files that name the pictures of a folder, as Hugging Face's image folders have them."""

_SHARD = re.compile(r"^(?P<name>.+?)-\d{5}-of-\d{5}(?:-[0-9a-f]{16})?$")


@dataclass(frozen=True)
class TaskFiles:
    """Hold the files of a task.

    Attributes:
        train: files with training items.
        test: files with test items; empty if training items are to be held out.
        notes: what there is to say about the choice, a sentence each.
    """

    train: tuple[Path, ...]
    test: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def files_of_path(path: Path) -> TaskFiles:
    """Return a data file and the test file that belongs to it.

    Raises:
        DataError: several files may be its test file.
    """
    places = _partners(path)
    test = _only([p for word in TEST_WORDS for p in places.get(word, ())], path)
    others = [p for word in VALIDATION_WORDS for p in places.get(word, ())]
    if test is not None:
        return TaskFiles((path,), (test,), tuple(_unused(other, test) for other in others))
    validation = _only(others, path)
    if validation is None:
        return TaskFiles((path,))
    note = f"{path}: there is no test file; {validation.name} beside it is used for testing"
    return TaskFiles((path,), (validation,), (note,))


def files_of_folder(folder: Path) -> TaskFiles:
    """Return the files of a folder: saved by ``datasets``, downloaded from the Hub, or one's own.

    Raises:
        DataError: no training items are found, or several sets of them.
    """
    if (folder / STATE).is_file():
        return TaskFiles((folder,))
    metadata = [folder / name for name in METADATA if (folder / name).is_file()]
    if len(metadata) > 1:
        raise DataError(f"{folder}: {' and '.join(p.name for p in metadata)}; keep one of them")
    if metadata:
        return TaskFiles((metadata[0],))
    if is_class_folder(folder):
        return TaskFiles((folder,))
    found = _by_split(folder)
    train = [path for word in TRAIN_WORDS for path in found.get(word, ())]
    if not train:
        names = sorted(entry.name for entry in folder.iterdir())[:8]
        raise DataError(
            f"{folder}: no training data found; a folder needs train.json (or .jsonl, .csv,"
            " .parquet), a folder 'train', metadata.jsonl, or folders of pictures by class; it"
            f" holds {', '.join(names) or '-'}"
        )
    test = [path for word in TEST_WORDS for path in found.get(word, ())]
    validation = [path for word in VALIDATION_WORDS for path in found.get(word, ())]
    notes = [_unused(path, test[0]) for path in validation] if test else []
    if validation and not test:
        used = ", ".join(path.name for path in validation)
        notes = [f"{folder}: there are no test files; {used} are used for testing"]
    return TaskFiles(tuple(train), tuple(test or validation), tuple(notes))


def _by_split(folder: Path) -> dict[str, list[Path]]:
    """Return the data files of a folder by the word for their split."""
    found: dict[str, list[Path]] = {}
    below = [folder / "data"] if (folder / "data").is_dir() else []
    for place in (folder, *below):
        for entry in sorted(place.iterdir()):
            split = _split_word(entry)
            if split is None:
                continue
            if entry.is_dir():
                whole = (entry / STATE).is_file() or is_class_folder(entry)
                files = [entry] if whole else _metadata_or_files(entry)
                found.setdefault(split, []).extend(files)
            elif entry.suffix.lower() in RECORD_TYPES:
                found.setdefault(split, []).append(entry)
    for split, paths in found.items():
        if len({_stem(path) for path in paths if path.parent in (folder, *below)}) > 1 or (
            len(paths) > 1 and len({path.suffix for path in paths}) > 1
        ):
            names = ", ".join(str(path.relative_to(folder)) for path in paths)
            raise DataError(
                f"{folder}: several files may hold the {split} items: {names}; name one of them as"
                " the task"
            )
    return found


def _metadata_or_files(folder: Path) -> list[Path]:
    metadata = [folder / name for name in METADATA if (folder / name).is_file()]
    return metadata or [
        path for path in sorted(folder.iterdir()) if path.suffix.lower() in RECORD_TYPES
    ]


def _split_word(path: Path) -> str | None:
    """Return the word for a split that a file's or folder's name is, without its shard number."""
    name = _stem(path).casefold()
    return name if name in SPLIT_WORDS else None


def _stem(path: Path) -> str:
    stem = path.name if path.is_dir() else path.stem
    shard = _SHARD.match(stem)
    return shard["name"] if shard else stem


def _partners(path: Path) -> dict[str, list[Path]]:
    """Return the files that may hold test items of a training file, by their word for it."""
    found: dict[str, list[Path]] = {}
    for word in (*TEST_WORDS, *VALIDATION_WORDS):
        wanted = {stem.casefold() for stem in _swapped(path.stem, word)}
        found[word] = _data_files(path.parent, wanted)
        if path.parent.name.casefold() in TRAIN_WORDS and path.parent.parent.is_dir():
            for folder in path.parent.parent.iterdir():
                if folder.is_dir() and folder.name.casefold() == word:
                    same = {path.stem.casefold(), *wanted}
                    found[word] += _data_files(folder, same)
    return found


def _swapped(stem: str, word: str) -> list[str]:
    """Return the stem with another word for ``train``; empty if it has no such word."""
    pieces = re.split(r"([^A-Za-z]+)", stem)
    places = [index for index, piece in enumerate(pieces) if piece.casefold() in TRAIN_WORDS]
    return ["".join([*pieces[:index], word, *pieces[index + 1 :]]) for index in places]


def _data_files(folder: Path, stems: Iterable[str]) -> list[Path]:
    wanted = set(stems)
    return sorted(
        entry
        for entry in (folder.iterdir() if wanted else ())
        if entry.suffix.lower() in RECORD_TYPES
        and entry.stem.casefold() in wanted
        and entry.is_file()
    )


def _only(paths: Sequence[Path], train: Path) -> Path | None:
    if len(paths) > 1:
        raise DataError(
            f"{train}: several files may hold its test items: {', '.join(map(str, paths))}; leave"
            " one of them there"
        )
    return paths[0] if paths else None


def _unused(path: Path, test: Path) -> str:
    return f"{path} is not used; {test.name} is used for testing"
