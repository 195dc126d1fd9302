"""Check what a report reads, how it groups runs, and what it says where something is missing."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import yaml

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.errors import CheckpointError
from fedmosaic.packing import read_some, unpack, write
from fedmosaic.reporting.html.collect import collect
from fedmosaic.reporting.html.sections import Section, sections


def the_section(*folders: Path) -> Section:
    (section,) = sections(collect(folders))
    return section


def edit(config: Path, **changes: object) -> None:
    content = yaml.safe_load(config.read_text())
    content["scenario"] |= changes
    config.write_text(yaml.safe_dump(content))


def test_the_statistics_are_those_of_the_comparison(comparison_folder: Path) -> None:
    section = the_section(comparison_folder)
    result = json.loads((comparison_folder / "comparison.json").read_text())
    assert json.loads(json.dumps(section.rows)) == result["algorithms"]
    assert section.seeds == [0, 1] and list(section.runs) == ["sft", "fedmosaic"]


def test_show_prints_a_comparison_as_json(
    comparison_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(comparison_folder), "--json"]) == 0
    result = json.loads((comparison_folder / "comparison.json").read_text())
    assert json.loads(capsys.readouterr().out) == result


def test_a_run_is_read_as_it_was_written(comparison_folder: Path) -> None:
    run = the_section(comparison_folder).runs["fedmosaic"][1]
    folder = comparison_folder / "fedmosaic" / "seed-1"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert {n: r.weights for n, r in run.relevance.items()} == {
        line["round"]: line["relevance"]["weights"] for line in lines if line["kind"] == "round"
    }
    for column in ("Self", "Others"):
        assert list(run.curves[column]) == [0, 1]
        assert run.curves[column][1] == pytest.approx(100 * run.summary[column.lower()]["last"])
    assert run.curves["Others"][0] != run.curves["Others"][1]

    tensors, _ = unpack(
        (folder / "checkpoints" / "round-0002" / "clients" / "b.safetensors").read_bytes()
    )
    betas = {
        key.removeprefix("adapter/local/gate."): float(v)
        for key, v in tensors.items()
        if "local/gate." in key
    }
    for layer, gate in run.gates["b"].items():
        own = [
            1 / (1 + math.exp(-beta))
            for key, beta in betas.items()
            if key.split(".")[0] == str(layer)
        ]
        assert gate.share == pytest.approx(sum(own) / len(own)) and len(own) == 2
    # Ten layers in two blocks: their last ones are shared by all architectures.
    assert [layer for layer, gate in run.gates["b"].items() if gate.block_end] == [4, 9]
    assert (
        not the_section(comparison_folder).runs["sft"][0].gates
        and not the_section(comparison_folder).runs["sft"][0].relevance
    )


def test_some_tensors_of_a_file(comparison_folder: Path, tmp_path: Path) -> None:
    path = next(
        (comparison_folder / "fedmosaic" / "seed-0").glob(
            "checkpoints/round-0002/clients/a.safetensors"
        )
    )
    tensors, _ = unpack(path.read_bytes())
    names, found = read_some(path, lambda name: name.endswith((".Q", ".B")))
    assert set(names) == set(tensors)
    assert (
        set(found) == {name for name in tensors if name.endswith((".Q", ".B"))} and len(found) > 4
    )
    assert all(
        (found[name] == tensors[name]).all() and found[name].shape == tensors[name].shape
        for name in found
    )
    (tmp_path / "damaged").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError):
        read_some(tmp_path / "damaged", lambda name: True)
    write(tmp_path / "empty", {}, {})
    assert read_some(tmp_path / "empty", lambda name: True) == ([], {})


def test_runs_of_their_own_join_those_of_equal_settings(
    comparison_folder: Path, tmp_path: Path
) -> None:
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(comparison_folder / "sft" / "seed-0", moved)
    for name in ("config.yaml", "summary.json"):
        text = (moved / name).read_text()
        (moved / name).write_text(
            text.replace("seed: 0\nthreads", "seed: 7\nthreads").replace('"seed": 0', '"seed": 7')
        )
    shutil.copytree(moved, other)
    edit(other / "config.yaml", rounds=5)
    section = the_section(comparison_folder, moved, other)
    assert {label: list(runs) for label, runs in section.runs.items()} == {
        "sft": [0, 1, 7],
        "fedmosaic": [0, 1],
        "sft (rounds=5)": [7],
    }
    repeated = the_section(comparison_folder, comparison_folder / "sft" / "seed-1")
    assert list(repeated.runs["sft"]) == [0, 1] and not repeated.notes
    copied = the_section(comparison_folder, moved, Path(shutil.copytree(moved, tmp_path / "copy")))
    assert list(copied.runs["sft"]) == [0, 1, 7] and "copy is left out" in copied.notes[0]


def test_runs_that_measure_other_things_are_sections_of_their_own(
    comparison_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(comparison_folder / "sft" / "seed-0", other)
    content = yaml.safe_load((other / "config.yaml").read_text())
    edit(other / "config.yaml", data={**content["scenario"]["data"], "test": 99})
    first, second = sections(collect([comparison_folder, other]))
    assert list(first.runs) == ["sft", "fedmosaic"] and list(second.runs) == ["sft"]
    assert first.difference == "" and second.difference == "data.test=99"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda run: (run / "summary.json").unlink(),
            "it has finished 2 of 2 rounds; continue it with",
        ),
        (lambda run: (run / "summary.json").write_text("{"), "is damaged"),
        (lambda run: (run / "summary.json").write_text("[]"), "is damaged"),
        (
            lambda run: (run / "summary.json").write_text('{"algorithm": "sft", "seed": 1}'),
            "there is no 'clients'",
        ),
        (lambda run: (run / "config.yaml").write_text("- x: ["), "cannot be read"),
        (lambda run: (run / "config.yaml").write_text("algorithm: 3"), "config.yaml"),
        (lambda run: (run / "metrics.jsonl").write_text('{"kind": "score"}\n'), "is damaged"),
        (lambda run: (run / "metrics.jsonl").write_bytes(b"\xff\xfe\n"), "is damaged"),
        (
            lambda run: shutil.copy(run.parent / "seed-0" / "summary.json", run),
            "belongs to another run",
        ),
        (lambda run: _replace(run / "summary.json", '"auc": ', '"auc": NaN, "x": '), "not finite"),
        (lambda run: shutil.rmtree(run), "not a run folder"),
    ],
)
def test_what_cannot_be_used_is_named_and_the_rest_is_shown(
    comparison_folder: Path, damage: object, message: str
) -> None:
    assert callable(damage)
    damage(comparison_folder / "sft" / "seed-1")
    collected = collect([comparison_folder])
    assert len(collected.runs) == 3
    (note,) = collected.notes
    assert note.startswith("sft, seed 1 is ") and message in note


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_the_page_says_what_is_left_out(comparison_folder: Path) -> None:
    (comparison_folder / "sft" / "seed-1" / "summary.json").unlink()
    page = fedmosaic.report(comparison_folder).read_text()
    assert (
        "sft, seed 1 is left out: it has finished 2 of 2 rounds" in page and "1 of 2 seeds" in page
    )


def test_a_damaged_checkpoint_is_named(comparison_folder: Path) -> None:
    path = next(
        (comparison_folder / "fedmosaic" / "seed-0").glob(
            "checkpoints/round-0002/clients/a.safetensors"
        )
    )
    path.write_bytes(b"12345678")
    assert "fedmosaic, seed 0 is damaged" in collect([comparison_folder]).notes[0]


def test_a_comparison_that_failed_in_part_or_is_not_finished(comparison_folder: Path) -> None:
    result = json.loads((comparison_folder / "comparison.json").read_text())
    result["failed"] = [
        {"label": "sft", "seed": 1, "reason": "the loss is not finite", "lost": False}
    ]
    (comparison_folder / "comparison.json").write_text(json.dumps(result))
    assert collect([comparison_folder]).notes == [
        "sft, seed 1 failed and is left out: the loss is not finite"
    ]
    (comparison_folder / "comparison.json").unlink()
    collected = collect([comparison_folder])
    assert "is not finished" in collected.notes[0] and len(collected.runs) == 4


def test_nothing_to_show_is_one_line(
    comparison_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match="is not a folder; name folders"):
        collect([tmp_path / "nowhere"])
    with pytest.raises(CheckpointError, match="holds neither a run nor a comparison"):
        collect([comparison_folder / "sft"])
    run = comparison_folder / "sft" / "seed-0"
    (run / "summary.json").unlink()
    assert main(["report", str(run)]) == 2
    error = capsys.readouterr().err
    assert (
        error.startswith("fedmosaic: nothing to report: ")
        and "run --resume" in error
        and error.count("\n") == 1
    )
    assert not (run / "report.html").exists()
    (comparison_folder / "comparison.json").write_text("{")
    assert main(["report", str(comparison_folder)]) == 2
    assert "comparison.json is damaged" in capsys.readouterr().err
