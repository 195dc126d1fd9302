"""Resume runs with the files that people bring in place of those that the runs began with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import short_run
import yaml

import fedmosaic
from fedmosaic.errors import DataError

CASES = Path(__file__).parents[1] / "cases"
LINES = (CASES / "expected.jsonl").read_text(encoding="utf-8").splitlines()
RESUMED = [case for case in map(json.loads, LINES) if case["kind"] == "resume"]


@pytest.mark.parametrize("case", RESUMED, ids=lambda case: str(case["id"]))
def test_a_file_in_the_place_of_another(case: dict[str, Any], tmp_path: Path) -> None:
    content = {
        "rounds": 2,
        "clients": [
            {"name": "a", "model": "miniature/llama-8x96", "tasks": [str(tmp_path / "rows.json")]}
        ],
        "data": {"root": str(CASES)},
        "adapter": {"r": 2, "num_blocks": 1, "target_modules": ["q_proj"]},
        "train": {"steps": 1, "batch_size": 2},
        "evaluation": {"every": 0},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    shutil.copy(CASES / case["before"], tmp_path / "rows.json")
    with pytest.raises(KeyboardInterrupt):
        stop = [short_run.StopAt(1, "a")]
        short_run.start(tmp_path / "mine.yaml", tmp_path / "run", algorithm="sft", callbacks=stop)
    shutil.copy(CASES / case["file"], tmp_path / "rows.json")
    if case["expect"] != "refuse":
        assert fedmosaic.resume(tmp_path / "run", progress=False).summary["rounds"]["done"] == 2
        return
    with pytest.raises(DataError) as raised:
        fedmosaic.resume(tmp_path / "run", progress=False)
    for wanted in case["error"]:
        parts = wanted if isinstance(wanted, list) else [wanted]
        assert any(part in str(raised.value).lower() for part in parts)
