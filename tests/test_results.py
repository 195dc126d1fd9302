"""Check that committed tables are what the committed figures give, and that the page shows them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from benchmarks.accuracy import (
    ablations,
    adaptation,
    cross_architecture,
    curves,
    evidence_content,
    evidence_page,
    evidence_parts,
    evidence_picture,
    evidence_short,
    real_images,
    transplant,
    transplant_table,
)
from benchmarks.common.marks import PAGE
from benchmarks.common.paths import RESULTS, ROOT, read_result
from benchmarks.common.tables import scenario_table
from benchmarks.cost import equal_compute, equal_compute_reasons

SHOWN = PAGE.read_text()
SECTIONS = re.split(r"^## ", SHOWN, flags=re.M)[1:]


def page_of(name: str) -> str:
    """Return the committed page of a result."""
    return (RESULTS / f"{name}.md").read_text()


def as_stored(content: Any) -> Any:
    """Return content as a file would hold it."""
    return json.loads(json.dumps(content))


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_every_quoted_interval_stands_in_a_linked_result(section: str) -> None:
    figure = re.compile(r"(\d*\.\d) ± (\d+\.\d)")
    linked = set(re.findall(r"benchmarks/results/[\w-]+\.md", section))
    known = {found for file in linked for found in figure.findall((ROOT / file).read_text())}
    prose = "\n".join(line for line in section.splitlines() if not line.startswith("|"))
    quoted = figure.findall(prose)
    assert quoted and not [found for found in quoted if found not in known]


def test_the_transplant_table_is_what_the_jobs_give() -> None:
    jobs = [read_result(f"transplant/{number}") for number in range(len(transplant.JOBS))]
    found = transplant_table.result_of(jobs)
    assert as_stored(found) == read_result("transplant")
    page = transplant_table.page(jobs, read_result("transplant/chosen"))
    assert page == page_of("transplant")
    assert transplant_table.short_table(found) in SHOWN
    assert len(jobs) >= 5 and len({job["pretraining"] for job in jobs}) >= 2


def test_the_evidence_is_what_the_runs_gave() -> None:
    parts = read_result("evidence")
    for content in parts.values():
        rows = content["rows"]
        assert evidence_content.judged_claims(rows) == content["claims"]
        assert all(row["seeds"] == list(evidence_parts.ALL_SEEDS) for row in rows.values())
        assert set(rows) <= evidence_content.SHOWN.keys()
    assert evidence_page.page(parts) == page_of("evidence")
    for name, table in evidence_short.tables_of(parts).items():
        assert f"<!-- {name} -->\n{table}\n<!-- end of {name} -->" in SHOWN
    assert evidence_picture.draw(parts) == evidence_picture.PICTURE.read_text()
    assert "evidence.svg" in SHOWN


def test_the_easy_vqa_table_is_what_the_runs_gave() -> None:
    content = read_result("easy-vqa")
    rows = content["scenarios"][real_images.SCENARIO]
    assert real_images.table(content["command"], rows) == page_of("easy-vqa")
    assert scenario_table(content["scenarios"]) in SHOWN
    assert list(rows) == list(real_images.ALGORITHMS)
    assert all(row["seeds"] == content["seeds"] == list(real_images.SEEDS) for row in rows.values())


def test_the_table_across_architectures_is_what_the_runs_gave() -> None:
    content = read_result("cross_architecture")
    rows = content["rows"]
    assert cross_architecture.table(rows, content["command"]) == page_of("cross_architecture")
    assert as_stored(cross_architecture.differences_content(rows)) == content["differences"]
    assert content["settings"] == cross_architecture.SETTINGS
    assert cross_architecture.short_table(rows) in SHOWN
    assert all(len(row["seeds"]) >= 5 for row in rows.values())


def test_the_table_of_fast_adaptation_is_what_the_runs_gave() -> None:
    content = read_result("adaptation")
    curves, rows = content["curves"], adaptation.untrained_rows()
    assert adaptation.table(curves, content["command"]) == page_of("adaptation")
    assert adaptation.short_table(curves) in SHOWN
    assert set(curves) == {*rows, *rows.values()}
    seeds = curves["sft"].keys()
    assert len(seeds) >= 3 and all(curve.keys() == seeds for curve in curves.values())


def test_the_ablations_are_what_the_runs_gave() -> None:
    content = read_result("ablations")
    rows, shares, seeds = content["rows"], content["own group"], content["seeds"]
    assert ablations.table(rows, shares, seeds, content["command"]) == page_of("ablations")
    assert ablations.short_table(rows, shares) in SHOWN
    assert list(rows) == [variant.label for variant in ablations.variants()]
    assert len(seeds) >= 3 and all(row["seeds"] == seeds for row in rows.values())


def test_the_table_of_equal_compute_is_what_was_measured() -> None:
    content = read_result("equal_compute")
    assert equal_compute.table(content) == page_of("equal_compute")
    found = content["algorithms"]
    reasons = {name: row["why"] for name, row in found.items()}
    assert list(reasons.items()) == list(equal_compute_reasons.REASONS.items())


def test_the_curves_are_what_the_runs_gave() -> None:
    content = read_result("curves")
    found = content["algorithms"]
    assert curves.page(content) == page_of("curves")
    assert list(found) == list(curves.ALGORITHMS) and content["settings"] == curves.SETTINGS
    seeds = list(map(str, curves.SEEDS))
    assert all(list(row[column]) == seeds for row in found.values() for column in curves.PANELS)
    drawn = {path.stem: path.read_text() for path in curves.PICTURES.glob("*.svg")}
    assert drawn == curves.pictures(found)
