"""The README's table is the committed result, and its Python runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from tables import short_table  # noqa: E402

README = (ROOT / "README.md").read_text()


def test_the_table_is_the_committed_result() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "miniature.json").read_text())
    assert short_table(result["scenarios"]) in README


def test_every_seed_is_there() -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / "miniature.json").read_text())
    assert len(result["seeds"]) >= 3
    for variants in result["scenarios"].values():
        for rows in variants.values():
            assert rows["seeds"] == result["seeds"]


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_python_of_the_readme_is_python() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 2
    for block in blocks:
        compile(block, "README.md", "exec")
    assert len(blocks[0].strip().splitlines()) <= 10
