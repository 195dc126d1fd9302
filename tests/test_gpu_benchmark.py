"""Test that the benchmark of cards runs from beginning to end, with tiny models on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.cost import gpu, waiting


def test_it_runs_on_a_cpu(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu.main(["--device", "cpu", "--tiny", "--budget", "0"]) == 0
    rows = [line.split("|")[1:3] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [[cell.strip() for cell in row] for row in rows] == [
        [model, adapter] for model in ("tiny Llama", "tiny Qwen2-VL") for adapter in gpu.KINDS
    ]


def test_a_step_that_waits_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda mode: None)
    assert waiting.what_waits(torch.device("cpu")) == ""
    losses = iter([waiting.answer_loss])

    def loss(*arguments: object) -> torch.Tensor:
        found = next(losses, None)
        if found is None:
            raise RuntimeError("called a synchronizing CUDA operation")
        return found(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(waiting, "answer_loss", loss)
    assert "synchronizing" in waiting.what_waits(torch.device("cpu"))
