"""Test the verdicts of the device check without running a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.cost import device_check
from benchmarks.cost.check_families import FAMILIES

GRADIENT = torch.tensor([3.0, 4.0])


@pytest.mark.parametrize(
    ("loss", "gradient", "ok"),
    [(2.0, GRADIENT, True), (2.03, GRADIENT, False), (2.0, 1.2 * GRADIENT, False)],
)
def test_loss_and_gradient_have_a_tolerance_each(
    loss: float, gradient: torch.Tensor, ok: bool
) -> None:
    (run,) = (run for run in device_check.RUNS if run.name == "bfloat16")
    row = device_check.compare(run, (2.0, GRADIENT), (loss, gradient))
    assert row["ok"] is ok
    assert row["loss_difference"] == pytest.approx(loss - 2)


def test_nan_is_out_of_tolerance() -> None:
    row = device_check.compare(device_check.RUNS[0], (2.0, GRADIENT), (float("nan"), GRADIENT))
    assert row["ok"] is False


@pytest.mark.parametrize("ok", [True, False])
def test_the_exit_status_says_whether_all_is_within_tolerance(
    ok: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def check(family: Any, device: torch.device) -> list[dict[str, Any]]:
        seen.append(family.name)
        return [{"ok": ok or family.name != "llama"}]

    monkeypatch.setattr(device_check, "check_family", check)
    assert device_check.main(["--dry-run"]) == (0 if ok else 1)
    assert seen == sorted(FAMILIES) == ["gemma3", "llama", "qwen2_vl"]
    assert ("OUT OF TOLERANCE" in capsys.readouterr().out) is not ok
