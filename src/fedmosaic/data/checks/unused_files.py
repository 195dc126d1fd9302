"""Find files that look like test data of a task and are not used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from fedmosaic.data.reading.files import RECORD_TYPES
from fedmosaic.data.split_words import TEST_WORDS, TRAIN_WORDS, VALIDATION_WORDS

_WORDS = {*TEST_WORDS, *VALIDATION_WORDS}


def unused_files(train: Sequence[Path], used: Sequence[Path]) -> Iterator[str]:
    """Yield a sentence for each data file near the training files that looks like test data.

    Its name, or that of its folder, has one of the words for test or validation data, and is
    otherwise nothing or the training file's name.

    Args:
        train: the training files.
        used: all files of the task.
    """
    known = {path.resolve() for path in used}
    for path in train:
        folder = path.parent
        near = [*_files(folder), *(p for word in _WORDS for p in _files(folder / word))]
        for other in sorted(set(near)):
            if other.resolve() not in known and _is_partner(path, other):
                yield (
                    f"{other} looks like test data of {path.name} and is not used; name the files"
                    " train.json and test.json, or put them into folders train and test"
                )


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [entry for entry in folder.iterdir() if entry.suffix.lower() in RECORD_TYPES]


def _is_partner(path: Path, other: Path) -> bool:
    words = _split(other.stem)
    if other.parent != path.parent:
        return _split(path.stem) == words
    rest = [word for word in words if word not in _WORDS]
    own = [word for word in _split(path.stem) if word not in TRAIN_WORDS]
    return rest != words and rest in ([], own)


def _split(stem: str) -> list[str]:
    return [word for word in re.split(r"[^a-z0-9]+", stem.casefold()) if word]
