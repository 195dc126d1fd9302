"""Tasks and public examples by name: the miniature benchmark, easy-VQA, reference tasks, DRAKE and HFLB folders, files of one's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from fedmosaic.data.easy_vqa import load_easy_vqa
from fedmosaic.data.example import Example, Task
from fedmosaic.data.llava_json import CONVERSATION_FIELDS, conversation_example, drake_file
from fedmosaic.data.records import FileExamples, Place, Record, choose, read_records
from fedmosaic.data.reference import load_task as load_reference
from fedmosaic.data.reference import public_set as reference_public
from fedmosaic.data.synthetic import synthetic_examples
from fedmosaic.data.text import read_text, text_example
from fedmosaic.errors import DataError, nearest
from fedmosaic.seeding import rng, seed_for

Kind = Literal["choice", "open"]
Metric = Literal["accuracy", "f1", "rouge_l"]
Split = Literal["train", "test"]
SYNTHETIC = ("synthetic", "synthetic/text")
FILE_TYPES = (".json", ".jsonl", ".txt")
_SUBSET = re.compile(r"(?P<dataset>.+)[/-](?P<subset>\d+)")
# A file without a test file beside it gives up every fifth item for testing.
_TEST_SHARE = 0.2


def load_task(
    ref: str,
    *,
    root: Path | None = None,
    seed: int = 0,
    train_limit: int | None = None,
    test_limit: int | None = None,
    kind: Kind | None = None,
    metric: Metric | None = None,
    group: str | None = None,
) -> Task:
    """The task that ``ref`` names.

    - ``miniature/<name>``: the rendered benchmark, drawn from ``seed``.
    - ``easy-vqa/<name>``: :mod:`fedmosaic.data.easy_vqa`.
    - ``reference/<name>``: :mod:`fedmosaic.data.reference`, text alone.
    - ``<Dataset>-<k>`` or ``<Dataset>/<k>``: ``<root>/<Dataset>/{train,test}/dataset-<k>.json``, as DRAKE and HFLB are.
    - a path to a ``.json`` or ``.jsonl`` file (below ``root``, or as it stands): the training examples; the test
      examples are the file of that name in a folder ``test`` beside its folder ``train``, or ``test.json`` beside
      ``train.json``, or else a seeded fifth of its items.

    Args:
        root: the folder that names and paths refer to (a scenario's ``data.root``); default the working folder.
        seed: names every sample that is taken.
        train_limit, test_limit: the most examples of each; default all (miniature, reference: their own sizes).
        kind: default "choice" if any test example has options, else "open".
        metric: default "accuracy" for choice; for open, "f1" with images and "rouge_l" without.
        group: default what the source says, else empty.

    Raises:
        DataError: an unknown name (with the nearest ones), or data that is missing, malformed or empty.
    """
    source, _, name = ref.partition("/")
    if source == "miniature":
        from fedmosaic.miniature.benchmark.load import load_task as load_miniature

        task = replace(
            load_miniature(name, seed=seed, train=train_limit, test=test_limit), name=ref
        )
    elif source == "easy-vqa":
        task = load_easy_vqa(name, seed=seed, train_limit=train_limit, test_limit=test_limit)
    elif source == "reference":
        task = load_reference(name, seed=seed, train=train_limit, test=test_limit)
    else:
        folder = Path() if root is None else root
        read = _from_file if ref.endswith((".json", ".jsonl")) else _from_folder
        task = read(ref, folder, seed, train_limit, test_limit)
        kind = kind or ("choice" if any(example.options for example in task.test) else "open")
        open_metric: Metric = "f1" if any(example.images for example in task.test) else "rouge_l"
        metric = metric or ("accuracy" if kind == "choice" else open_metric)
    return replace(
        task,
        kind=kind or task.kind,
        metric=metric or task.metric,
        group=task.group if group is None else group,
    )


def public_examples(
    ref: str, n: int, seed: int = 0, *, root: Path | None = None
) -> Sequence[Example]:
    """``n`` examples of public data (all, if there are fewer), for alignment and distillation.

    Args:
        ref: ``miniature/public``, ``reference/public`` (text), ``synthetic`` (drawn pictures) or ``synthetic/text``
            (:mod:`fedmosaic.data.synthetic`), a path to a LLaVA-style, instruction or text file (``.json``, ``.jsonl``,
            ``.txt``), or ``<Dataset>-<k>`` below ``root`` (its training file).

    Raises:
        DataError: as :func:`load_task`.
    """
    if ref == "miniature/public":
        from fedmosaic.miniature.benchmark.load import public_set

        public: Sequence[Example] = public_set(n, seed)
        return public
    if ref == "reference/public":
        return reference_public(n, seed)
    if ref in SYNTHETIC:
        return synthetic_examples(n, seed, text=ref == SYNTHETIC[1])
    folder = Path() if root is None else root
    if ref.endswith(FILE_TYPES):
        path = _existing(ref, folder)
        return read_examples(path, roots=[folder], limit=n, seed=seed_for(seed, "public"))
    dataset, subset = _split_name(ref, folder)
    path = drake_file(folder, dataset, subset, "train")
    return read_examples(
        path, roots=[folder, folder / dataset], limit=n, seed=seed_for(seed, "public")
    )


def read_examples(
    path: Path, *, roots: Sequence[Path] = (), limit: int | None = None, seed: int | None = None
) -> FileExamples:
    """A file's examples, whichever of the known forms it has: conversations (with images), instructions, or text.

    Raises:
        DataError: naming the file, the item and the field.
    """
    if path.suffix == ".txt":
        return read_text(path, limit=limit, seed=seed)
    records = read_records(path)
    make: Callable[[Record, Place], Example] = text_example
    if any(field in records[0] for field in CONVERSATION_FIELDS):
        make = partial(conversation_example, folders=[*roots, path.parent], known={})
    return FileExamples.read(path, records, make, limit, seed)


def _from_folder(
    ref: str, root: Path, seed: int, train_limit: int | None, test_limit: int | None
) -> Task:
    dataset, subset = _split_name(ref, root)
    name = f"{dataset}-{subset}"

    def some(split: Split, limit: int | None) -> FileExamples:
        path = drake_file(root, dataset, subset, split)
        return read_examples(
            path, roots=[root, root / dataset], limit=limit, seed=seed_for(seed, name, split)
        )

    return Task(name, some("train", train_limit), some("test", test_limit), family=dataset)


def _from_file(
    ref: str, root: Path, seed: int, train_limit: int | None, test_limit: int | None
) -> Task:
    path = _existing(ref, root)
    train_seed, test_seed = seed_for(seed, ref, "train"), seed_for(seed, ref, "test")
    beside = path.with_name("test" + path.suffix) if path.stem == "train" else None
    if path.parent.name == "train":
        beside = path.parent.with_name("test") / path.name
    if beside is not None and beside.is_file():
        train = read_examples(path, roots=[root], limit=train_limit, seed=train_seed)
        test = read_examples(beside, roots=[root], limit=test_limit, seed=test_seed)
        return Task(ref, train, test, family=path.stem)
    examples = read_examples(path, roots=[root])
    if len(examples) < 2:
        raise DataError(f"{path} holds one item; it takes 2 or more to train and test")
    shuffled = rng(seed, ref, "split").permutation(len(examples)).tolist()
    held_out = max(1, round(len(examples) * _TEST_SHARE))
    train = _some(examples, sorted(shuffled[held_out:]), train_limit, train_seed)
    return Task(
        ref,
        train,
        _some(examples, sorted(shuffled[:held_out]), test_limit, test_seed),
        family=path.stem,
    )


def _some(examples: FileExamples, part: list[int], limit: int | None, seed: int) -> FileExamples:
    kept = [part[index] for index in choose(len(part), limit, seed)]
    return FileExamples.build(
        examples.path, (examples.positions[i] for i in kept), (examples[i] for i in kept)
    )


def _existing(ref: str, root: Path) -> Path:
    candidates = [root / ref, Path(ref)]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        folder = candidates[0].parent
        beside = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        raise DataError(
            f"data file {candidates[0]} does not exist.{nearest(Path(ref).name, beside)}"
        )
    return path


def _split_name(ref: str, root: Path) -> tuple[str, int]:
    """Dataset and subset of a name below ``root``; a DataError with the nearest names if there is no such thing."""
    if not root.is_dir():
        raise DataError(
            f"task {ref!r}: the folder {root} does not exist; set data.root to where the datasets lie"
        )
    match = _SUBSET.fullmatch(ref)
    if match and drake_file(root, match["dataset"], int(match["subset"]), "train").is_file():
        return match["dataset"], int(match["subset"])
    known = [
        f"{file.parent.parent.name}-{file.stem[8:]}" for file in root.glob("*/train/dataset-*.json")
    ]
    expected = drake_file(root, match["dataset"], int(match["subset"]), "train") if match else None
    looked = f" (looked for {expected})" if expected else ""
    sources = " Other sources: miniature/<name>, easy-vqa/<name>, reference/<name>, or a path to a .json file."
    raise DataError(f"unknown task {ref!r}{looked}.{nearest(ref, known) or sources}")
