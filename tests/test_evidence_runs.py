"""Check that the evidence continues after any stop, and runs what changed; no run is made here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy import evidence_content, evidence_rows, evidence_runs, evidence_table
from benchmarks.accuracy.evidence_file import EvidenceFile
from benchmarks.accuracy.evidence_parts import ALL_SEEDS, CHOOSING_SEEDS, PARTS
from benchmarks.accuracy.evidence_rows import EvidenceRow
from benchmarks.accuracy.evidence_store import PartStore
from fedmosaic.experiments.grid import Failure, GridListener, Job
from fedmosaic.experiments.variants import Variant
from fedmosaic.federation.run_folder import RunFolder

SFT = EvidenceRow(Variant("sft", "sft"))
DITTO = EvidenceRow(Variant("ditto", "ditto"))
CHANGED = EvidenceRow(Variant("more local", "ditto"), rate_of="ditto", kind="changed")


class MadeUpGrid:
    """Stand in for the grid: write summaries, and stop like a killed process where asked to."""

    def __init__(self) -> None:
        self.made: list[str] = []
        self.most_folders = self.grids = 0
        self.stop_after: int | None = None
        self.failing = ""

    def __call__(
        self, title: str, jobs: Sequence[Job], parallel: int, listener: GridListener, features: Path
    ) -> list[Failure]:
        self.grids += 1
        finished = [job for job in jobs if job.summary() is not None]
        listener.grid_started(title, jobs, finished, parallel)
        failures = []
        for job in jobs:
            if job in finished:
                continue
            listener.job_started(job)
            self.made.append(f"{job.label}/{job.seed}")
            if self.failing and self.failing in job.label:
                failures.append(Failure(job.label, job.seed, "no budget"))
                continue
            RunFolder(job.folder).write_summary(summary_of(job))
            folders = sum(other.summary() is not None for other in jobs)
            self.most_folders = max(self.most_folders, folders)
            if self.stop_after is not None and len(self.made) == self.stop_after:
                raise KeyboardInterrupt  # after the run, before its figures are stored
            listener.job_finished(job, job.summary() or {})
        return failures


def summary_of(job: Job) -> dict[str, Any]:
    """Return a summary; the learning rate 4e-3 is best in validation, 2e-3 the second best."""
    scenario = job.settings.scenario
    value = {2e-3: 0.55, 4e-3: 0.6}.get(scenario.train.lr, 0.5) + job.seed / 1e4
    figures = {
        "self": {"last": value},
        "others": {"last": value - 0.2, "in_group": {"last": 0.4}, "out_group": {"last": 0.3}},
        "clients": {
            client.name: {
                "self": {"last": value},
                "others": {"last": value},
                "tasks": {spec.name: value for one in scenario.clients for spec in one.tasks},
            }
            for client in scenario.clients
        },
    }
    return {
        "algorithm": job.settings.algorithm,
        "evaluation": {"view": "mixed"},
        "steps": 12,
        "rounds": {"of": 8},
        "flops": {"client_round": 1.0, "server_round": 0},
        "bytes": {"up": 1, "down": 2},
        "seconds": {"total": 10.0},
        "memory": 2_000_000,
        **figures,
        **({"answered_by": {"own": 3}} if job.settings.algorithm == "ditto" else {}),
        "also": {f"{view}, after": figures for view in scenario.evaluation.views[1:]},
    }


@pytest.fixture
def grid(monkeypatch: pytest.MonkeyPatch) -> MadeUpGrid:
    made = MadeUpGrid()
    monkeypatch.setattr(evidence_runs, "run_grid", made)
    return made


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    monkeypatch.setattr(evidence_rows, "ROWS", (SFT, DITTO, CHANGED))

    def command(*rows: EvidenceRow, part: str = "static", **options: Any) -> bool:
        store = PartStore(part, tmp_path / "stored")
        return evidence_runs.run_rows(store, rows, ALL_SEEDS, tmp_path / "runs", **options)

    return command


TRIALS = [f"train.lr={rate}/{seed}" for rate in ("2e-3", "4e-3", "8e-3") for seed in CHOOSING_SEEDS]


def test_a_row_chooses_its_rate_and_runs_with_all_seeds(
    grid: MadeUpGrid, run: Callable[..., bool], tmp_path: Path
) -> None:
    assert run(SFT, DITTO, CHANGED)
    trials = {label: [f"{label}, {trial}" for trial in TRIALS] for label in ("sft", "ditto")}
    seeds = {label: [f"{label}/{s}" for s in ALL_SEEDS] for label in ("sft", "ditto", "more local")}
    # The next row's trials go with the runs of a row.
    expected = [*trials["sft"], *seeds["sft"], *trials["ditto"], *seeds["ditto"]]
    assert grid.made == [*expected, *seeds["more local"]]
    store = PartStore("static", tmp_path / "stored")
    assert store.chosen(DITTO) == store.chosen(CHANGED) == ("train.lr=4e-3",)
    found = store.standing(DITTO, 4)
    assert found is not None and found["views"].keys() == {"mixed", "global", "routed"}
    assert found["views"]["global"]["Self"] == pytest.approx(60.04)
    assert found["answered_by"] == {"own": 3}
    assert found["views"]["mixed"]["clients"] == [[60.0, 60.0]] * 10
    assert not list((tmp_path / "runs").rglob("summary.json"))  # folders are removed
    assert run(SFT, DITTO, CHANGED) and len(grid.made) == 27  # nothing is run twice


@pytest.mark.parametrize("runs_before", [1, 7, 12])
def test_a_killed_command_continues(
    grid: MadeUpGrid, run: Callable[..., bool], tmp_path: Path, runs_before: int
) -> None:
    grid.stop_after = runs_before
    with pytest.raises(KeyboardInterrupt):
        run(SFT, DITTO, keep=True)
    grid.stop_after = None
    assert run(SFT, DITTO)
    assert len(grid.made) == len(set(grid.made)) == 22
    text = (tmp_path / "stored" / "static.json").read_text()
    assert run(SFT, DITTO) and (tmp_path / "stored" / "static.json").read_text() == text


def test_another_machine_goes_on_from_the_stored_file(
    grid: MadeUpGrid, run: Callable[..., bool], tmp_path: Path
) -> None:
    grid.stop_after = 8
    with pytest.raises(KeyboardInterrupt):
        run(SFT)
    grid.stop_after = None
    for folder in (tmp_path / "runs").iterdir():
        folder.rename(tmp_path / f"gone-{folder.name}")
    assert run(SFT)
    assert grid.made.count("sft/1") == 2 and len(grid.made) == 12  # it had not been stored


def test_files_of_two_machines_are_merged(
    grid: MadeUpGrid, run: Callable[..., bool], tmp_path: Path
) -> None:
    here = EvidenceFile("static", tmp_path / "stored")
    assert run(SFT)
    sft = here.read()
    here.path.unlink()
    assert run(DITTO)
    before = len(grid.made)
    here.merge(sft)
    assert run(SFT, DITTO) and len(grid.made) == before
    other = {"rates": {}, "runs": {"sft": {"0": {"settings": "of another version"}}}}
    here.merge(other)
    assert here.read()["runs"]["sft"] == sft["runs"]["sft"]


def test_changed_settings_are_run_again(grid: MadeUpGrid, run: Callable[..., bool]) -> None:
    assert run(SFT, DITTO)
    before = len(grid.made)
    other = replace(DITTO, variant=Variant("ditto", "ditto", ("algorithms.ditto.lam=0.5",)))
    evidence_rows.ROWS = (SFT, other)
    assert run(SFT, other)
    assert len(grid.made) == before + 11 and all("ditto" in made for made in grid.made[before:])


def test_a_changed_default_is_noticed_and_a_new_setting_is_not(
    grid: MadeUpGrid, run: Callable[..., bool], tmp_path: Path
) -> None:
    assert run(SFT, DITTO)
    before = len(grid.made)
    file = EvidenceFile("static", tmp_path / "stored")

    def change(**options: Any) -> None:
        for label in ("sft", "ditto"):
            figures = file.read()["runs"][label]["2"]
            file.add_run(label, 2, {**figures, "options": options})

    change(steps=None)  # as if all others were new
    assert run(SFT, DITTO) and len(grid.made) == before
    change(**{"steps": None, "routing.quantile": 0.5})  # as if the default had been another one
    assert run(SFT, DITTO) and grid.made[before:] == ["sft/2", "ditto/2"]
    stored = file.read()["runs"]
    assert stored["ditto"]["2"]["options"]["routing.quantile"] == 0.99
    assert stored["ditto"]["2"]["options"]["lam"] == 1.0
    assert "routing.quantile" not in file.read()["rates"]["ditto"]["train.lr=4e-3"]["options"]


def test_a_row_with_another_view_is_run_again(
    grid: MadeUpGrid, run: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence_rows, "VIEWS", ("mixed",))
    monkeypatch.setattr(evidence_rows, "ROUTED", "mixed")
    assert run(SFT, DITTO)
    before = len(grid.made)
    monkeypatch.setattr(evidence_rows, "VIEWS", ("mixed", "global"))
    assert run(SFT, DITTO)
    assert grid.made[before:] == [f"ditto/{seed}" for seed in ALL_SEEDS]  # sft has no such view


def test_it_stops_in_time(grid: MadeUpGrid, run: Callable[..., bool]) -> None:
    assert not run(SFT, deadline=0.0)
    assert not grid.made


def test_finished_runs_are_replaced_if_asked(grid: MadeUpGrid, run: Callable[..., bool]) -> None:
    assert run(SFT, keep=True)
    assert run(SFT, keep=True, replace=True)
    assert [grid.made.count(f"sft/{seed}") for seed in ALL_SEEDS] == [2] * 5
    assert [grid.made.count(f"sft, {trial}") for trial in TRIALS] == [1] * 6


def test_rows_whose_rates_are_chosen_run_together(
    grid: MadeUpGrid, run: Callable[..., bool]
) -> None:
    assert run(SFT, DITTO, CHANGED)
    grids, before = grid.grids, len(grid.made)
    grid.most_folders = 0
    assert run(SFT, DITTO, CHANGED, replace=True)
    assert grid.grids == grids + 1 and len(grid.made) == before + 15
    assert grid.most_folders == 3  # three seeds have one pretraining; then their folders go


def test_a_run_that_fails_is_not_tried_twice(
    grid: MadeUpGrid, run: Callable[..., bool], tmp_path: Path
) -> None:
    grid.failing = "train.lr=4e-3"
    assert run(SFT)
    store = PartStore("static", tmp_path / "stored")
    assert store.chosen(SFT) == ("train.lr=2e-3",)
    grid.failing = "ditto"
    assert run(SFT, DITTO, CHANGED)  # which take a rate that could not be chosen
    tried = len(grid.made)
    assert run(SFT, DITTO, CHANGED) and len(grid.made) == tried == 19
    assert evidence_content.unfinished_rows(store) == ["ditto", "more local"]
    assert list(evidence_content.standing_runs(store)) == ["sft"]


def test_unmatched_takes_the_rates_and_equal_runs_of_static(
    grid: MadeUpGrid, run: Callable[..., bool], tmp_path: Path
) -> None:
    assert run(SFT)
    before = len(grid.made)
    assert run(SFT, part="unmatched") and len(grid.made) == before  # 12 steps in both
    file = EvidenceFile("static", tmp_path / "stored")
    for seed, figures in file.read()["runs"]["sft"].items():
        file.add_run("sft", int(seed), {**figures, "steps": 9})
    assert run(SFT, part="unmatched")
    assert grid.made[before:] == [f"sft/{seed}" for seed in ALL_SEEDS]


def test_a_part_with_unfinished_rows_can_be_published_without_them(
    grid: MadeUpGrid, run: Callable[..., bool], tmp_path: Path
) -> None:
    assert run(SFT)
    stores = {part: PartStore(part, tmp_path / "stored") for part in PARTS}
    with pytest.raises(ValueError, match="static lacks ditto, more local"):
        evidence_table.published_parts({}, stores, finished_rows=())
    earlier = {"dynamic": {"rows": {"ditto": {}}}}
    parts = evidence_table.published_parts(earlier, stores, finished_rows=["static"])
    assert list(parts["static"]["rows"]) == ["sft", "zero-shot"]
    assert parts["dynamic"] == earlier["dynamic"]
