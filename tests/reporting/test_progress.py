"""Check that progress in a pipe is plain lines, and in a terminal a bar."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.evaluation import Record
from fedmosaic.experiments.grid import Job
from fedmosaic.reporting.comparison_progress import GridProgress
from fedmosaic.reporting.progress import AlignProgress, ConsoleProgress

SUMMARY = {"self": {"last": 0.5}, "others": {"last": 0.25}, "seconds": {"total": 61}}


def test_an_alignment_reports_each_finished_step_once() -> None:
    stream = io.StringIO()
    with AlignProgress(console=Console(file=stream)) as progress:
        for done in range(3):
            progress("collecting [moments]", done, 2)
    assert stream.getvalue() == "collecting [moments]: 2 of 2\n"
    stream = io.StringIO()
    with AlignProgress(console=Console(file=stream, force_terminal=True, width=80)) as progress:
        progress("collecting [moments]", 2, 2)
    assert "━" in stream.getvalue() and "2 of 2" not in stream.getvalue()
    stream = io.StringIO()
    with AlignProgress(shown=False, console=Console(file=stream)) as progress:
        progress("collecting", 2, 2)
    assert stream.getvalue() == ""


def test_a_run_reports_each_round(tiny: Path) -> None:
    stream = io.StringIO()
    progress = ConsoleProgress(Console(file=stream))
    progress.run_started(RunSettings(name="[red]name", scenario=load_scenario(tiny)), 0)
    progress.round_started(0, ["a"])
    progress.client_finished(0, "a", {"steps": 5, "loss": 0.25})
    scores = [
        Record(0, "a", "miniature/stages-0", "accuracy", 0.5, 4),
        Record(0, "a", "miniature/idiom-3", "accuracy", 0.25, 4),
    ]
    progress.round_finished(0, {"refused": {"b": "client 'b' sent nothing"}}, scores)
    progress.closed()
    title, models, *rest = stream.getvalue().splitlines()
    assert title == "[red]name · fedmosaic · seed 0 · 4 clients · 3 rounds"
    assert models == "miniature/llama-8x96, miniature/qwen2-10x112, miniature/llama-12x128"
    assert rest == [
        "round   1/3  loss 0.250  self 50.0  others 25.0",
        "  client 'b' sent nothing; the round went on without it",
    ]


def test_a_comparison_reports_each_run(tiny: Path, tmp_path: Path) -> None:
    settings = RunSettings(name="x", scenario=load_scenario(tiny))
    jobs = [Job(label, 0, tmp_path / label, settings) for label in ("[b]one", "two")]
    stream = io.StringIO()
    progress = GridProgress(Console(file=stream))
    progress.grid_started("title", jobs, [], 2)
    for job in jobs:
        progress.job_started(job)
        progress.job_progress(job, 1.5, 3, None)
    progress.job_finished(jobs[0], SUMMARY)
    progress.job_failed(jobs[1], "the loss is not finite")
    progress.grid_closed()
    assert stream.getvalue().splitlines() == [
        "title · 2 runs · at most 2 at a time",
        "[b]one · seed 0  self 50.0  others 25.0  1:01",
        "two · seed 0  failed: the loss is not finite",
    ]
