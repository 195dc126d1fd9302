"""Load tasks and public examples from files of one's own and from folders of datasets.

- ``<Dataset>-<k>`` or ``<Dataset>/<k>`` is the subset k of a dataset in the layout of DRAKE and
  HFLB: ``<root>/<Dataset>/{train,test}/dataset-<k>.json``.
- A path to a data file (``.json``, ``.jsonl``, ``.csv``, ``.tsv``, ``.parquet``), below ``root`` or
  as it stands, is a task whose training examples are in that file. Its test examples are in the
  file beside it that :mod:`fedmosaic.data.splits` finds. Without such a file a random fifth of the
  items is held out for testing.
- A path to a folder is a task whose files :mod:`fedmosaic.data.splits` finds in it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from fedmosaic.data.example import Task
from fedmosaic.data.reading.files import RECORD_TYPES, read_examples
from fedmosaic.data.records import FileExamples, choose
from fedmosaic.data.sources import Split, drake_file, how_to_get
from fedmosaic.data.splits import TaskFiles, files_of_folder, files_of_path
from fedmosaic.errors import DataError, nearest
from fedmosaic.seeding import rng, seed_for

Kind = Literal["choice", "open"]
Metric = Literal["accuracy", "f1", "rouge_l"]
_SUBSET = re.compile(r"(?P<dataset>.+)[/-](?P<subset>\d+)")
_TEST_SHARE = 0.2


def is_file_task(ref: str, root: Path) -> bool:
    """Return whether a task's name is the path of a data file, or of a folder with data files."""
    if ref.lower().endswith(RECORD_TYPES):
        return True
    folder = next((place for place in _places(ref, root) if place.is_dir()), None)
    if folder is None or any(folder.glob("train/dataset-*.json")):
        return False
    return not _is_subset(ref, root)


def load_task_folder(
    ref: str,
    *,
    root: Path,
    seed: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
    kind: Kind | None = None,
) -> Task:
    """Return the task of a dataset's subset; see :func:`fedmosaic.data.registry.load_task`."""
    dataset, subset = _dataset_and_subset(ref, root)
    name = f"{dataset}-{subset}"

    def read(split: Split, limit: int | None) -> FileExamples:
        path = drake_file(root, dataset, subset, split)
        return read_examples(
            path, roots=[root, root / dataset], limit=limit, seed=seed_for(seed, name, split)
        )

    return _task(name, read("train", train_limit), read("test", test_limit), dataset, kind)


def load_task_file(
    ref: str,
    *,
    root: Path,
    seed: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
    kind: Kind | None = None,
) -> Task:
    """Return the task of a file or folder; see :func:`fedmosaic.data.registry.load_task`."""
    path = _existing(ref, root)
    files = files_of_folder(path) if path.is_dir() else files_of_path(path)
    roots = [root, path] if path.is_dir() else [root]
    train_seed, test_seed = seed_for(seed, ref, "train"), seed_for(seed, ref, "test")
    if files.test:
        train = read_examples(files.train, roots=roots, limit=train_limit, seed=train_seed)
        test = read_examples(files.test, roots=roots, limit=test_limit, seed=test_seed)
    else:
        examples = read_examples(files.train, roots=roots)
        if len(examples) < 2:
            raise DataError(f"{path} holds one item; it takes 2 or more to train and test")
        train_part, test_part = held_out(len(examples), ref, seed)
        train = _sample(examples, train_part, train_limit, train_seed)
        test = _sample(examples, test_part, test_limit, test_seed)
    train.notes = (*files.notes, *train.notes)
    return _task(ref, train, test, path.stem, kind)


def held_out(count: int, ref: str, seed: int) -> tuple[list[int], list[int]]:
    """Divide the items of a task without a test file into training and test items.

    Args:
        count: number of its items, 2 or more.
        ref: name of the task.
        seed: the scenario's ``data.seed``.
    """
    shuffled = rng(seed, ref, "split").permutation(count).tolist()
    tested = max(1, round(count * _TEST_SHARE))
    return sorted(shuffled[tested:]), sorted(shuffled[:tested])


def task_files(ref: str, root: Path) -> TaskFiles:
    """Return the files of a task, without reading them.

    Args:
        ref: name of a task in the layout of DRAKE and HFLB, or path of a file or folder.
        root: folder that names and paths are relative to.

    Raises:
        DataError: there is no such task, file or folder, or its files are not clear.
    """
    if not is_file_task(ref, root):
        dataset, subset = _dataset_and_subset(ref, root)
        train, test = (drake_file(root, dataset, subset, split) for split in ("train", "test"))
        return TaskFiles((train,), (test,))
    path = _existing(ref, root)
    return files_of_folder(path) if path.is_dir() else files_of_path(path)


def load_public_folder(ref: str, n: int, seed: int, *, root: Path) -> FileExamples:
    """Return ``n`` training examples of a dataset's subset; all, if there are fewer."""
    dataset, subset = _dataset_and_subset(ref, root)
    path = drake_file(root, dataset, subset, "train")
    return read_examples(path, roots=[root, root / dataset], limit=n, seed=seed_for(seed, "public"))


def load_public_file(ref: str, n: int, seed: int, *, root: Path) -> FileExamples:
    """Return ``n`` training examples of a file or folder; all, if there are fewer."""
    path = _existing(ref, root)
    files = files_of_folder(path).train if path.is_dir() else (path,)
    return read_examples(files, roots=[root], limit=n, seed=seed_for(seed, "public"))


def _task(
    name: str, train: FileExamples, test: FileExamples, family: str, kind: Kind | None
) -> Task:
    """Return the task with its kind, unless given, and its metric taken from the test examples."""
    kind = kind or ("choice" if any(example.options for example in test) else "open")
    open_metric: Metric = "f1" if any(example.images for example in test) else "rouge_l"
    metric: Metric = "accuracy" if kind == "choice" else open_metric
    return Task(name, train, test, kind=kind, metric=metric, family=family)


def _sample(examples: FileExamples, part: list[int], limit: int | None, seed: int) -> FileExamples:
    return examples.select(part[index] for index in choose(len(part), limit, seed))


def _places(ref: str, root: Path) -> list[Path]:
    return [root / ref, Path(ref)]


def _existing(ref: str, root: Path) -> Path:
    candidates = _places(ref, root)
    path = next((place for place in candidates if place.is_file() or place.is_dir()), None)
    if path is None:
        folder = candidates[0].parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        raise DataError(
            f"data file {candidates[0]} does not exist.{nearest(Path(ref).name, names)}"
        )
    return path


def _is_subset(ref: str, root: Path) -> bool:
    match = _SUBSET.fullmatch(ref)
    if match is None:
        return False
    return drake_file(root, match["dataset"], int(match["subset"]), "train").is_file()


def _dataset_and_subset(ref: str, root: Path) -> tuple[str, int]:
    """Split a name such as ``VSR-1`` or ``VSR/1`` of a dataset that exists below ``root``.

    Raises:
        DataError: there is no such dataset; the message has the nearest names.
    """
    missing = how_to_get([ref], root)
    if not root.is_dir():
        raise DataError(
            f"task {ref!r}: the folder {root} does not exist;"
            f" {missing or 'set data.root to where the datasets lie'}"
        )
    match = _SUBSET.fullmatch(ref)
    if match and _is_subset(ref, root):
        return match["dataset"], int(match["subset"])
    known = [
        f"{file.parent.parent.name}-{file.stem[8:]}" for file in root.glob("*/train/dataset-*.json")
    ]
    expected = drake_file(root, match["dataset"], int(match["subset"]), "train") if match else None
    searched = f" (looked for {expected})" if expected else ""
    sources = (
        " Other sources: miniature/<name>, easy-vqa/<name>, reference/<name>,"
        " or the path of a data file (.json, .jsonl, .csv, .parquet …) or folder."
    )
    hint = nearest(ref, known) or (f" {missing}" if missing else sources)
    raise DataError(f"unknown task {ref!r}{searched}.{hint}")
