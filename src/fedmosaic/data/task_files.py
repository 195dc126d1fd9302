"""Load tasks and public examples from files of one's own and from folders of datasets.

- ``<Dataset>-<k>`` or ``<Dataset>/<k>`` is the subset k of a dataset in the layout of DRAKE and
  HFLB: ``<root>/<Dataset>/{train,test}/dataset-<k>.json``.
- A path to a ``.json`` or ``.jsonl`` file, below ``root`` or as it stands, is a task whose training
  examples are in that file. Its test examples are in the file of the same name in a folder ``test``
  next to its folder ``train``, or in ``test.json`` next to ``train.json``. Without such a file a
  random fifth of the items is held out for testing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from fedmosaic.data.example import Example, Task
from fedmosaic.data.llava_json import CONVERSATION_FIELDS, conversation_example, drake_file
from fedmosaic.data.records import FileExamples, Record, RecordLocation, choose, read_records
from fedmosaic.data.text import INSTRUCTION_FIELDS, read_text, text_example
from fedmosaic.errors import DataError, nearest
from fedmosaic.seeding import rng, seed_for

Kind = Literal["choice", "open"]
Metric = Literal["accuracy", "f1", "rouge_l"]
Split = Literal["train", "test"]
RECORD_TYPES = (".json", ".jsonl")
FILE_TYPES = (*RECORD_TYPES, ".txt")
_SUBSET = re.compile(r"(?P<dataset>.+)[/-](?P<subset>\d+)")
_TEST_SHARE = 0.2


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
    """Return the task of a file; see :func:`fedmosaic.data.registry.load_task`."""
    path = _existing_file(ref, root)
    train_seed, test_seed = seed_for(seed, ref, "train"), seed_for(seed, ref, "test")
    test_path = _test_file(path)
    if test_path is not None:
        train = read_examples(path, roots=[root], limit=train_limit, seed=train_seed)
        test = read_examples(test_path, roots=[root], limit=test_limit, seed=test_seed)
        return _task(ref, train, test, path.stem, kind)
    examples = read_examples(path, roots=[root])
    if len(examples) < 2:
        raise DataError(f"{path} holds one item; it takes 2 or more to train and test")
    shuffled = rng(seed, ref, "split").permutation(len(examples)).tolist()
    held_out = max(1, round(len(examples) * _TEST_SHARE))
    train = _sample(examples, sorted(shuffled[held_out:]), train_limit, train_seed)
    test = _sample(examples, sorted(shuffled[:held_out]), test_limit, test_seed)
    return _task(ref, train, test, path.stem, kind)


def load_public_folder(ref: str, n: int, seed: int, *, root: Path) -> FileExamples:
    """Return ``n`` training examples of a dataset's subset; all, if there are fewer."""
    dataset, subset = _dataset_and_subset(ref, root)
    path = drake_file(root, dataset, subset, "train")
    return read_examples(path, roots=[root, root / dataset], limit=n, seed=seed_for(seed, "public"))


def load_public_file(ref: str, n: int, seed: int, *, root: Path) -> FileExamples:
    """Return ``n`` examples of a file; all, if there are fewer."""
    path = _existing_file(ref, root)
    return read_examples(path, roots=[root], limit=n, seed=seed_for(seed, "public"))


def read_examples(
    path: Path, *, roots: Sequence[Path] = (), limit: int | None = None, seed: int | None = None
) -> FileExamples:
    """Return a file's examples: conversations (with images), instructions, or plain text.

    Each item says which by its fields; a ``.txt`` file is plain text.

    Args:
        path: the file.
        roots: folders that image paths may start from, before the file's own.
        limit: the most items to take; default None, all.
        seed: draws a random sample of ``limit`` items; default None, the first ones.

    Raises:
        DataError: the file or an item is malformed; the message names file, item and field.
    """
    if path.suffix == ".txt":
        return read_text(path, limit=limit, seed=seed)
    records = read_records(path)
    conversation = partial(conversation_example, folders=[*roots, path.parent], known={})
    # An item without any known field is taken for one of the first item's kind, for the message.
    otherwise = conversation if _has(records[0], CONVERSATION_FIELDS) else text_example

    def make(record: Record, location: RecordLocation) -> Example:
        if _has(record, CONVERSATION_FIELDS):
            return conversation(record, location)
        known = _has(record, (*INSTRUCTION_FIELDS, "text"))
        return (text_example if known else otherwise)(record, location)

    return FileExamples.read(path, records, make, limit, seed)


def _has(record: Record, fields: Sequence[str]) -> bool:
    return any(field in record for field in fields)


def _task(
    name: str, train: FileExamples, test: FileExamples, family: str, kind: Kind | None
) -> Task:
    """Return the task with its kind, unless given, and its metric taken from the test examples."""
    kind = kind or ("choice" if any(example.options for example in test) else "open")
    open_metric: Metric = "f1" if any(example.images for example in test) else "rouge_l"
    metric: Metric = "accuracy" if kind == "choice" else open_metric
    return Task(name, train, test, kind=kind, metric=metric, family=family)


def _sample(examples: FileExamples, part: list[int], limit: int | None, seed: int) -> FileExamples:
    chosen = [part[index] for index in choose(len(part), limit, seed)]
    return FileExamples.build(
        examples.path, (examples.positions[i] for i in chosen), (examples[i] for i in chosen)
    )


def _test_file(path: Path) -> Path | None:
    """Return the file with the test examples that belong to a training file, if there is one."""
    test_path = path.with_name("test" + path.suffix) if path.stem == "train" else None
    if path.parent.name == "train":
        test_path = path.parent.with_name("test") / path.name
    return test_path if test_path is not None and test_path.is_file() else None


def _existing_file(ref: str, root: Path) -> Path:
    candidates = [root / ref, Path(ref)]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        folder = candidates[0].parent
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        raise DataError(
            f"data file {candidates[0]} does not exist.{nearest(Path(ref).name, names)}"
        )
    return path


def _dataset_and_subset(ref: str, root: Path) -> tuple[str, int]:
    """Split a name such as ``VSR-1`` or ``VSR/1`` of a dataset that exists below ``root``.

    Raises:
        DataError: there is no such dataset; the message has the nearest names.
    """
    if not root.is_dir():
        raise DataError(
            f"task {ref!r}: the folder {root} does not exist;"
            " set data.root to where the datasets lie"
        )
    match = _SUBSET.fullmatch(ref)
    if match and drake_file(root, match["dataset"], int(match["subset"]), "train").is_file():
        return match["dataset"], int(match["subset"])
    known = [
        f"{file.parent.parent.name}-{file.stem[8:]}" for file in root.glob("*/train/dataset-*.json")
    ]
    expected = drake_file(root, match["dataset"], int(match["subset"]), "train") if match else None
    searched = f" (looked for {expected})" if expected else ""
    sources = (
        " Other sources: miniature/<name>, easy-vqa/<name>, reference/<name>,"
        " or a path to a .json file."
    )
    raise DataError(f"unknown task {ref!r}{searched}.{nearest(ref, known) or sources}")
