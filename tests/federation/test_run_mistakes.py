"""Name what is wrong with a scenario, a folder or a checkpoint, and leave nothing half done."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from short_run import StopAt, start

import fedmosaic
from fedmosaic.errors import (
    CheckpointError,
    ConfigError,
    DataError,
    FedMosaicError,
    Interrupted,
    ModelError,
)
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.wire import read_tensors, write_tensors


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_in_which_all_clients_diverge_ends_with_the_reason(
    tiny: Path, tmp_path: Path, workers: int
) -> None:
    settings = ["train.lr=1e30", "train.lr_shared=1e30", "train.clip=0"]
    with pytest.raises(
        FedMosaicError, match=r"round 0: no usable update\. client 'a' .* lower train\.lr"
    ):
        start(tiny, tmp_path / "run", workers=workers, overrides=settings)


def test_a_text_model_is_not_shown_pictures(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Runtime.backbone

    def blind(self: Runtime, name: str) -> Any:
        backbone = real(self, name)
        if "qwen2" in name:
            backbone.images = backbone.encoder.images = None
        return backbone

    monkeypatch.setattr(Runtime, "backbone", blind)
    where = r"tiny\.yaml: clients\.1\.model: client 'b': train of miniature/stages-2: item 0 "
    with pytest.raises(ModelError, match=where + r".* takes text only"):
        start(tiny, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ("adapter.num_blocks=9", ModelError, r"tiny\.yaml: clients\.0\.model: .*8 layers"),
        (
            "clients=[{name: a, model: miniature/lama-8x96, tasks: [miniature/stages-0]}]",
            ModelError,
            "miniature/llama-8x96",
        ),
        (
            "clients=[{name: a, model: miniature/llama-8x96, tasks: [miniature/stage-0]}]",
            DataError,
            r"tiny\.yaml: clients\.0\.tasks\.0: .*stages-0",
        ),
        ("data.public=nowhere.json", DataError, r"data\.public: .*nowhere\.json"),
        ("evaluation.views=[mixd]", ConfigError, "mixed"),
        ("algorithms={fedmosaic: {stps: 1}}", ConfigError, "steps"),
        ("unseen=[miniature/nothing]", DataError, r"unseen\.0: "),
        ("models.dtype=floaty", ModelError, "dtype 'floaty'"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    tiny: Path, tmp_path: Path, change: str, error: type[FedMosaicError], message: str
) -> None:
    with pytest.raises(error, match=message):
        start(tiny, tmp_path / "runs" / "run", overrides=[change])
    assert not (tmp_path / "runs").exists()


def test_the_settings_are_written_before_models_and_data_are_loaded(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is refused leaves what was there before; one that is stopped can be resumed."""
    out = tmp_path / "run"
    out.mkdir()

    def stop(reason: BaseException) -> None:
        def load(*_: Any) -> Any:
            assert not yaml.safe_load((out / "config.yaml").read_text())["settled"]
            raise reason

        monkeypatch.setattr(Runtime, "backbone", load)
        monkeypatch.setattr(Runtime, "task", load)

    stop(MemoryError())
    with pytest.raises(MemoryError):
        start(tiny, out)
    assert not list(out.iterdir())
    stop(KeyboardInterrupt())
    with pytest.raises(Interrupted, match=str(out)):
        start(tiny, out)
    with pytest.raises(Interrupted, match=str(out)):
        fedmosaic.resume(out, progress=False)
    assert [path.name for path in out.iterdir()] == ["config.yaml"]
    monkeypatch.undo()
    resumed = fedmosaic.resume(out, progress=False)
    assert resumed.summary["rounds"]["done"] == 3
    assert yaml.safe_load((out / "config.yaml").read_text())["settled"]


def test_folders_that_are_no_runs(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.yaml"):
        fedmosaic.resume(tmp_path)
    with pytest.raises(ConfigError, match="already exists"):
        start(tiny, tmp_path)


def test_damaged_checkpoints_are_named(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(tiny, tmp_path / "run", callbacks=[StopAt(1, "d")])
    path = tmp_path / "run" / "checkpoints" / "round-0001" / "clients" / "c.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"c\.safetensors"):
        fedmosaic.resume(tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("adapter/local/gate.0.q_proj"), "lacks 'local/gate.0.q_proj'"),
        (lambda state: state["adapter/local/gate.0.q_proj"].fill_(float("nan")), "NaN or Inf"),
    ],
)
def test_checkpoints_of_another_adapter_are_named(
    tiny: Path, tmp_path: Path, change: Any, reason: str
) -> None:
    with pytest.raises(KeyboardInterrupt):
        start(tiny, tmp_path / "run", callbacks=[StopAt(1, "d")])
    path = tmp_path / "run" / "checkpoints" / "round-0001" / "clients" / "c.safetensors"
    tensors, scalars = read_tensors(path)
    change(tensors)
    write_tensors(path, tensors, scalars)
    with pytest.raises(CheckpointError, match=rf"c\.safetensors does not fit .*{reason}"):
        fedmosaic.resume(tmp_path / "run", progress=False)


def test_what_a_killed_run_left_half_done_is_cleared_and_blocks_nothing(
    tiny: Path, tmp_path: Path
) -> None:
    """Cover a temporary of config.yaml, an old checkpoint and half a folder of adapters."""
    out = tmp_path / "run"
    out.mkdir()
    (out / ".config.yaml.x").write_text("half")
    run = start(tiny, out)
    whole = {path.relative_to(out) for path in out.rglob("*")} - {Path(".config.yaml.x")}
    (out / "summary.json").unlink()
    shutil.copytree(out / "checkpoints" / "round-0002", out / "checkpoints" / "round-0001")
    (out / ".adapters.x").mkdir()
    (out / "checkpoints" / ".round-0004.x").mkdir()
    resumed = fedmosaic.resume(out, progress=False)
    assert {path.relative_to(out) for path in out.rglob("*")} == whole
    assert resumed.summary["self"] == run.summary["self"]
