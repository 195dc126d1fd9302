"""Committed tables are what the committed figures give, and the README shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.accuracy import (
    ablations,
    adaptation,
    cross_architecture,
    evidence,
    evidence_picture,
    evidence_table,
    language_models,
    real_images,
    transplant_table,
)
from benchmarks.accuracy.transplant import JOBS, RESULTS
from benchmarks.common import claims
from benchmarks.common.tables import COLUMNS, short_table, values_of

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SECTIONS = re.split(
    r"^#+ ", README[README.index("## Results") : README.index("## Where to go next")], flags=re.M
)[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_every_interval_that_the_readme_quotes_stands_in_a_result_that_it_links(
    section: str,
) -> None:
    figure = re.compile(r"(\d*\.\d) ± (\d+\.\d)")
    linked = set(re.findall(r"benchmarks/results/[\w-]+\.md", section))
    known = {found for file in linked for found in figure.findall((ROOT / file).read_text())}
    prose = "\n".join(line for line in section.splitlines() if not line.startswith("|"))
    quoted = figure.findall(prose)
    assert quoted and not [found for found in quoted if found not in known]


def test_the_transplant_table_is_what_the_jobs_give() -> None:
    jobs = [
        json.loads((RESULTS / "transplant" / f"{number}.json").read_text())
        for number in range(len(JOBS))
    ]
    found, text = transplant_table.summary(
        jobs, json.loads((RESULTS / "transplant" / "chosen.json").read_text())
    )
    assert text == (RESULTS / "transplant.md").read_text()
    assert json.loads(json.dumps(found)) == json.loads((RESULTS / "transplant.json").read_text())
    assert transplant_table.short_table(found) in README
    assert len(jobs) >= 5 and len({job["pretraining"] for job in jobs}) >= 2


def test_the_evidence_is_what_the_runs_gave() -> None:
    parts = json.loads((RESULTS / "evidence.json").read_text())
    for part, content in parts.items():
        rows = content["rows"]
        assert evidence_table.claims(rows) == content["claims"]
        assert set(rows) == {variant.label for variant in evidence.labelled(part)}
        assert all(
            row["seeds"] == [seed for seeds in evidence.SEEDS.values() for seed in seeds]
            for row in rows.values()
        )
    assert evidence_table.page(parts) == (RESULTS / "evidence.md").read_text()
    assert evidence_table.short_table(parts) in README
    assert evidence_table.short_claims(parts) in README
    assert evidence_picture.draw(parts["static"]["rows"]) == evidence_picture.PICTURE.read_text()
    assert "docs/evidence.svg" in README


def test_the_easy_vqa_table_is_what_the_runs_gave() -> None:
    content = json.loads((RESULTS / "easy-vqa.json").read_text())
    rows = content["scenarios"][real_images.SCENARIO]
    assert real_images.table(content["command"], rows) == (RESULTS / "easy-vqa.md").read_text()
    assert short_table(content["scenarios"]) in README
    assert list(rows) == list(real_images.ALGORITHMS)
    assert all(row["seeds"] == content["seeds"] == list(real_images.SEEDS) for row in rows.values())


def test_the_federation_table_is_what_the_runs_gave() -> None:
    content = json.loads((RESULTS / "cross_architecture.json").read_text())
    found, text = cross_architecture.table(content["rows"], content["command"])
    assert text == (RESULTS / "cross_architecture.md").read_text()
    assert json.loads(json.dumps(found["differences"])) == content["differences"]
    assert cross_architecture.short_table(content) in README
    assert all(len(row["seeds"]) >= 5 for row in content["rows"].values())


def test_the_language_models_table_is_what_the_runs_gave() -> None:
    content = json.loads((RESULTS / "language_models.json").read_text())
    rows = content["scenarios"][language_models.SCENARIO]
    assert language_models.table(content) == (RESULTS / "language_models.md").read_text()
    assert short_table({language_models.SCENARIO: rows}) in README
    assert claims.judged(values_of(rows), language_models.CLAIMS, COLUMNS) == content["claims"]
    assert claims.claims_table(content["claims"], COLUMNS) in README
    assert all(len(row["seeds"]) >= 5 for row in rows.values())
    assert all(
        sum(run["seconds"].values()) < 2 * 45 * 60 for run in content["runs"].values()
    )  # on two cores


def test_the_table_of_fast_adaptation_is_what_the_runs_gave() -> None:
    content = json.loads((RESULTS / "adaptation.json").read_text())
    curves = content["curves"]
    assert adaptation.table(curves, content["command"]) == (RESULTS / "adaptation.md").read_text()
    assert adaptation.short_table(curves) in README
    assert set(curves) == {*adaptation.untrained(), *adaptation.untrained().values()}
    assert all(
        len(seeds) >= 3 and seeds.keys() == curves["sft"].keys() for seeds in curves.values()
    )


def test_the_ablations_are_what_the_runs_gave() -> None:
    content = json.loads((RESULTS / "ablations.json").read_text())
    rows, listened = content["rows"], content["own group"]
    assert (
        ablations.table(rows, listened, content["seeds"], content["command"])
        == (RESULTS / "ablations.md").read_text()
    )
    assert ablations.short_table(rows, listened) in README
    assert list(rows) == [variant.label for variant in ablations.variants()]
    assert len(content["seeds"]) >= 3 and all(
        row["seeds"] == content["seeds"] for row in rows.values()
    )
