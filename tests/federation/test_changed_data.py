"""Resume runs whose data is as before, laid out anew, or changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import short_run
import yaml
from row_files import (
    CHANGES,
    COUNT,
    Items,
    item,
    laid_out_anew,
    one_answer,
    other_file_names,
    picture,
    touched,
    write,
)

import fedmosaic
from fedmosaic.cli import main
from fedmosaic.config import TaskSpec
from fedmosaic.errors import CheckpointError, DataError
from fedmosaic.federation.client import LocalClient
from fedmosaic.federation.data_record import DataRecord
from fedmosaic.federation.run_folder import RunFolder
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.wire import read_tensors, write_tensors
from fedmosaic.reporting.summary import _notes as summary_notes
from fedmosaic.reporting.summary import data_notes


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a scenario and a run that was stopped in its second round."""
    folder = tmp_path_factory.mktemp("begun")
    for k in range(3):
        picture(folder / "pictures" / f"{k}.png", k)
    write(folder, [item(k) for k in range(COUNT)])
    content = {
        "rounds": 3,
        "clients": [
            {"name": name, "model": "miniature/llama-8x96", "tasks": ["rows.json"]}
            for name in ("upper valley", "병원")
        ],
        "data": {"root": "."},
        "adapter": {"r": 2, "num_blocks": 1, "target_modules": ["q_proj"]},
        "train": {"steps": 1, "batch_size": 2},
        "evaluation": {"every": 0, "others": False},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    with pytest.raises(KeyboardInterrupt):
        short_run.start(
            folder / "mine.yaml",
            folder / "run",
            algorithm="fedavg",
            callbacks=[short_run.StopAt(1, "upper valley")],
        )
    return folder


@pytest.fixture
def place(begun: Path, tmp_path: Path) -> Path:
    """A copy of the folder; its run finds the data there."""
    folder = tmp_path / "copy"
    shutil.copytree(begun, folder)
    config = folder / "run" / "config.yaml"
    config.write_text(config.read_text().replace(str(begun), str(folder)))
    return folder


def resume(folder: Path, **options: Any) -> Any:
    return fedmosaic.resume(folder / "run", progress=False, **options)


@pytest.mark.parametrize("change", [touched, laid_out_anew, other_file_names])
def test_the_same_content_goes_on(change: Callable[[Path], None], place: Path) -> None:
    change(place)
    assert resume(place).summary["rounds"]["done"] == 3
    assert not [line for line in short_run.numbers(place / "run") if line["kind"] == "data"]


@pytest.mark.parametrize(("change", "message"), CHANGES.items(), ids=range(len(CHANGES)))
def test_other_content_is_refused_and_can_be_accepted(
    change: Callable[[Items], Items], message: str, place: Path
) -> None:
    write(place, change([item(k) for k in range(COUNT)]))
    before = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    with pytest.raises(DataError, match=message) as raised:
        resume(place)
    assert "--accept-data-change" in str(raised.value) and "\n" not in str(raised.value)
    assert before == {p: p.read_bytes() for p in (place / "run").rglob("*") if p.is_file()}

    with pytest.warns(UserWarning, match="goes on with changed data: .*" + message.split(",")[0]):
        summary = resume(place, accept_data_change=True).summary
    assert summary["rounds"]["done"] == 3
    [line] = [line for line in short_run.numbers(place / "run") if line["kind"] == "data"]
    assert line["round"] == 1 and line["changes"][0]["items"] >= 1
    page = fedmosaic.report(place / "run", out=place / "page.html").read_text()
    [note] = data_notes(summary)
    assert note in page and note in "\n".join(summary_notes(summary))
    assert summary["data_changes"] == [{key: line[key] for key in ("round", "changes")}]


def test_a_picture_file_that_was_replaced_is_refused(place: Path) -> None:
    picture(place / "pictures" / "2.png", 77)
    with pytest.raises(DataError, match=r"item 2: picture changed \(4 items differ\)"):
        resume(place)


def test_the_changed_data_is_the_data_from_then_on(place: Path) -> None:
    changed = one_answer([item(k) for k in range(COUNT)])
    write(place, changed)
    with pytest.warns(UserWarning, match="changed data"), pytest.raises(KeyboardInterrupt):
        resume(place, accept_data_change=True, callbacks=[short_run.StopAt(1, "upper valley")])
    write(place, [item(k) for k in range(COUNT)])
    with pytest.raises(DataError, match="item 3: answer changed"):
        resume(place)
    write(place, changed)
    assert resume(place).summary["data_changes"][0]["round"] == 1


def test_memories_hold_the_items_that_they_held(place: Path) -> None:
    """Items move to other numbers, and one that was in memory is gone."""
    opened, settings = RunFolder.open(place / "run")
    [spec, *_] = settings.scenario.clients

    def memory(runtime: Runtime) -> dict[str, float]:
        client = LocalClient(runtime, spec)
        latest = opened.latest()
        assert latest is not None
        client.load(latest / "clients" / f"{spec.name}.safetensors")
        held = client.stream.memory
        train = runtime.task(spec.tasks[0]).train
        return {train[n].question: count for n, count in zip(held.items, held.counts, strict=True)}

    before = memory(Runtime(settings))
    first = next(iter(before))
    rows = [item(k) for k in range(COUNT)]
    gone = next(entry for entry in rows if first.endswith(entry["conversations"][0]["value"]))
    write(place, [item(40), *(entry for entry in reversed(rows) if entry is not gone)])
    with pytest.warns(UserWarning, match="changed data"), pytest.raises(KeyboardInterrupt):
        resume(place, accept_data_change=True, callbacks=[short_run.StopAt(1, "upper valley")])
    after = memory(Runtime(settings))
    examples = Runtime(settings).task(TaskSpec(name="rows.json")).train
    trained = {example.question for example in examples}
    assert first not in after and len(before) > 1
    assert after == {key: before[key] for key in before if key != first and key in trained}


def test_an_accepted_change_that_was_interrupted_is_made_one_time(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(place, [item(k) for k in reversed(range(COUNT))])

    def fails(*_: Any) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_data_record", fails)
        with pytest.warns(UserWarning), pytest.raises(OSError, match="no space"):
            resume(place, accept_data_change=True)
    written = short_run.files(place / "run")
    with pytest.raises(DataError):
        resume(place)
    with pytest.warns(UserWarning), pytest.raises(KeyboardInterrupt):
        resume(place, accept_data_change=True, callbacks=[short_run.StopAt(1, "upper valley")])
    assert short_run.files(place / "run") == written
    lines = short_run.numbers(place / "run")
    assert sum(line["kind"] == "data" for line in lines) == 1


def test_a_run_without_a_record_goes_on_and_says_so(place: Path) -> None:
    """As a run of an earlier version: its checkpoints name no data either."""
    (place / "run" / "data.safetensors").unlink()
    latest = RunFolder(place / "run").latest()
    assert latest is not None
    tensors, scalars = read_tensors(latest / "server.safetensors")
    assert scalars.pop("data")
    write_tensors(latest / "server.safetensors", tensors, scalars)
    write(place, one_answer([item(k) for k in range(COUNT)]))
    with pytest.warns(UserWarning, match="cannot be compared"):
        assert resume(place).summary["rounds"]["done"] == 3
    assert (place / "run" / "data.safetensors").is_file()


def test_a_damaged_record_is_refused(place: Path) -> None:
    (place / "run" / "data.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"data\.safetensors cannot be read.*Remove it"):
        resume(place)


def test_a_checkpoint_of_other_data_is_refused(place: Path) -> None:
    """As where somebody removes the checkpoint that was rewritten, and an older one is left."""
    old = place / "old"
    shutil.copytree(place / "run" / "checkpoints", old)
    write(place, [item(k) for k in reversed(range(COUNT))])
    with pytest.warns(UserWarning), pytest.raises(KeyboardInterrupt):
        resume(place, accept_data_change=True, callbacks=[short_run.StopAt(1, "upper valley")])
    shutil.rmtree(place / "run" / "checkpoints")
    shutil.copytree(old, place / "run" / "checkpoints")
    with pytest.raises(CheckpointError, match="made with other data"):
        resume(place)
    (place / "run" / "data.safetensors").unlink()  # then nothing says what changed
    with pytest.warns(UserWarning), pytest.raises(CheckpointError, match="made with other data"):
        resume(place)


def test_public_data_cannot_change(place: Path) -> None:
    shutil.copy(place / "rows.json", place / "public.json")
    _, settings = RunFolder.open(place / "run")
    data = settings.scenario.data.model_copy(update={"public": "public.json"})
    changed = settings.model_copy(
        update={"scenario": settings.scenario.model_copy(update={"data": data})}
    )
    opened = RunFolder(place / "run")
    opened.create(changed)
    opened.write_data_record(DataRecord.of(Runtime(changed)))
    write(place, one_answer([item(k) for k in range(COUNT)]), "public.json")
    with pytest.raises(DataError, match=r"public\.json: item 3: answer changed.*start a new run"):
        resume(place, accept_data_change=True)


def test_the_record_is_read_as_it_was_written(place: Path) -> None:
    _, settings = RunFolder.open(place / "run")
    record = DataRecord.of(Runtime(settings))
    (place / "record").write_bytes(record.to_bytes())
    found = DataRecord.read(place / "record")
    assert found.id == record.id and not record.changes(found)
    [items] = found.sets.values()
    assert (len(items.positions), items.trained) == (COUNT, 10) and items.files[0].endswith(
        "rows.json"
    )


def test_the_command_refuses_in_one_line_and_accepts_on_request(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(place, one_answer([item(k) for k in range(COUNT)]))
    command = ["run", "--resume", str(place / "run"), "--quiet"]
    assert main(command) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "item 3: answer changed" in line and line.endswith("--accept-data-change")
    with pytest.warns(UserWarning, match="goes on with changed data"):
        assert main([*command, "--accept-data-change"]) == 0
    assert "data changed after round 1:" in capsys.readouterr().out
    assert main(["run", "miniature/quickstart", "--accept-data-change"]) == 2
    assert "goes with --resume" in capsys.readouterr().err
