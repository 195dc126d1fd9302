"""Load tasks and public examples by name.

A name is looked up in a table of sources. The table holds module paths, and a module is imported
only when one of its tasks is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from fedmosaic.data.example import Example, Task
from fedmosaic.data.reading.files import FILE_TYPES
from fedmosaic.data.task_files import Kind, Metric, is_file_task

TASK_SOURCES = {
    "miniature": "fedmosaic.miniature.benchmark.load:load_task",
    "easy-vqa": "fedmosaic.data.easy_vqa:load_easy_vqa",
    "reference": "fedmosaic.data.reference.tasks:load_task",
}
"""Prefix of a task's name -> function that loads the task ``<prefix>/<name>``.

It is called as ``load(name, seed=..., train_limit=..., test_limit=...)``.
"""

TASK_FILES = "fedmosaic.data.task_files:load_task_file"
TASK_FOLDERS = "fedmosaic.data.task_files:load_task_folder"

PUBLIC_SOURCES = {
    "miniature/public": "fedmosaic.miniature.benchmark.load:public_set",
    "reference/public": "fedmosaic.data.reference.tasks:public_set",
    "synthetic": "fedmosaic.data.synthetic:synthetic_pictures",
    "synthetic/text": "fedmosaic.data.synthetic:synthetic_texts",
}
"""Name of a public set -> function that is called as ``make(n, seed)``."""

PUBLIC_FILES = "fedmosaic.data.task_files:load_public_file"
PUBLIC_FOLDERS = "fedmosaic.data.task_files:load_public_folder"


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
    """Return the task of a name.

    - ``miniature/<name>``: the rendered benchmark, see :mod:`fedmosaic.miniature.benchmark.load`.
    - ``easy-vqa/<name>``: see :mod:`fedmosaic.data.easy_vqa`.
    - ``reference/<name>``: text only, see :mod:`fedmosaic.data.reference`.
    - ``<Dataset>-<k>`` or ``<Dataset>/<k>``: a folder in the layout of DRAKE and HFLB, and
    - a path to a data file or a folder with data files, see :mod:`fedmosaic.data.task_files`.

    Args:
        ref: name of the task.
        root: folder that folders and paths are relative to (a scenario's ``data.root``); default
            None, the working folder.
        seed: draws every sample that is taken.
        train_limit: the most training examples; default None, all that the task has.
        test_limit: the most test examples; default None, as for ``train_limit``.
        kind: overrides the task's kind; default None. A task from files is ``"choice"`` if any of
            its test examples has options, otherwise ``"open"``.
        metric: overrides the task's metric; default None. A choice task from files is scored by
            ``"accuracy"``, an open one by ``"f1"`` if it has images, otherwise by ``"rouge_l"``.
        group: overrides the task's group; default None.

    Raises:
        DataError: the name is unknown (the message has the nearest ones), or data is missing,
            malformed or empty.
    """
    sizes = {"seed": seed, "train_limit": train_limit, "test_limit": test_limit}
    prefix, _, name = ref.partition("/")
    if prefix in TASK_SOURCES:
        task: Task = _function(TASK_SOURCES[prefix])(name, **sizes)
    else:
        place = root or Path()
        load = _function(TASK_FILES if is_file_task(ref, place) else TASK_FOLDERS)
        task = load(ref, root=place, kind=kind, **sizes)
    return replace(
        task,
        kind=kind or task.kind,
        metric=metric or task.metric,
        group=task.group if group is None else group,
    )


def public_examples(
    ref: str, n: int, seed: int = 0, *, root: Path | None = None
) -> Sequence[Example]:
    """Return examples of public data, which alignment and distillation work on.

    Args:
        ref: ``miniature/public``; ``reference/public`` (text); ``synthetic`` (drawn pictures) or
            ``synthetic/text``, see :mod:`fedmosaic.data.synthetic`; a path to a LLaVA-style,
            instruction or text file (``.json``, ``.jsonl``, ``.txt``); or ``<Dataset>-<k>``, whose
            training file is taken.
        n: number of examples; all, if there are fewer.
        seed: draws the sample.
        root: folder that folders and paths are relative to; default None, the working folder.

    Raises:
        DataError: as :func:`load_task`.
    """
    if ref in PUBLIC_SOURCES:
        examples: Sequence[Example] = _function(PUBLIC_SOURCES[ref])(n, seed)
        return examples
    place = root or Path()
    is_file = ref.lower().endswith(FILE_TYPES) or is_file_task(ref, place)
    load = _function(PUBLIC_FILES if is_file else PUBLIC_FOLDERS)
    examples = load(ref, n, seed, root=place)
    return examples


def _function(path: str) -> Callable[..., Any]:
    module, _, name = path.partition(":")
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found
