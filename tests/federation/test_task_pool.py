"""Test what a pool of tasks says about the files that it read."""

from __future__ import annotations

import json
from pathlib import Path

from fedmosaic.config import TaskSpec
from fedmosaic.config.data import DataSettings
from fedmosaic.federation.pools import TaskPool


def test_notes_of_several_tasks_name_every_field_that_is_not_used(tmp_path: Path) -> None:
    for name, field in (("a", "one"), ("b", "two"), ("c", "one")):
        (tmp_path / name).mkdir()
        for part in ("train", "test"):
            items = [{"question": f"{part} {n}?", "answer": "x", field: 1} for n in range(3)]
            (tmp_path / name / f"{part}.json").write_text(json.dumps(items))
    pool = TaskPool(DataSettings(root=str(tmp_path)))
    for name in "abc":
        pool.task(TaskSpec(name=name))
    assert pool.notes() == (
        f"{tmp_path / 'a' / 'train.json'} and 3 more files: not used: 'one'",
        f"{tmp_path / 'b' / 'train.json'} and 1 more file: not used: 'two'",
    )
