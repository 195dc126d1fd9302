"""Test that the pages show what ``model check`` finds: its output, and the table of families."""

from __future__ import annotations

import io
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from rich.console import Console

import fedmosaic
from fedmosaic.model_check import CheckedModel
from fedmosaic.reporting.model_check import print_checks
from tests.families import FAMILIES, TORCHVISION, build
from tests.families.sample import ALL, sample
from tests.families.table import PAGE, check, lines_of, row

# Without torchvision these are refused, and so the table has them.
NAMES = [name for name in FAMILIES if not find_spec("torchvision") or name not in TORCHVISION]


def masked(text: str) -> list[str]:
    """Return the lines of a text without figures whose digits differ between processors."""
    return re.sub(r"\d\.\de-\d\d|(?<=loss )\d+\.\d+", "…", text).strip().splitlines()


def test_the_output_is_the_documented_one() -> None:
    text = (PAGE.parent / "models.md").read_text()
    shown = text.split("```text\n")[1].partition("```")[0]
    found = fedmosaic.check_models("miniature/llama-8x96", progress=False)
    out = io.StringIO()
    print_checks(found, Console(width=88, force_terminal=True, color_system=None, file=out))
    assert len(masked(shown)) > 15 and masked(out.getvalue()) == masked(shown)


def test_every_family_has_a_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.M)
    assert sorted(rows) == sorted(FAMILIES)


@pytest.mark.skipif(ALL, reason="the next test compares whole tables")
@pytest.mark.parametrize("name", sample(NAMES, "smolvlm", "jamba", "mllama", "t5"))
def test_a_row_is_what_the_check_finds(name: str, tmp_path: Path) -> None:
    assert row(check(build(name, tmp_path / name))) in PAGE.read_text().splitlines()


@pytest.mark.skipif(not ALL, reason="the default suite compares some of the rows")
def test_the_tables_are_what_the_check_finds(tmp_path: Path) -> None:
    lines = lines_of([check(build(name, tmp_path / name)) for name in NAMES])
    page = PAGE.read_text().splitlines()
    assert [line for line in lines if line not in page] == []


def test_a_problem_of_several_models_is_one_line() -> None:
    found = [CheckedModel(name, problems=["a and b share nothing", name * 2]) for name in "ab"]
    out = io.StringIO()
    print_checks(found, Console(width=100, file=out))
    lines = ["problem: a and b share nothing", "problem: aa", "problem: bb"]
    assert out.getvalue().strip().splitlines() == lines
