"""The algorithm that CONTRIBUTING.md adds in one file really runs, and does what its formula says."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import Tensor

import fedmosaic
from fedmosaic import algorithms
from fedmosaic.federation.wire import read_tensors


def test_the_example_of_the_contributing_page_runs(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    source = next(
        code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "class FedAvgM" in code
    )
    assert len(source.splitlines()) < 80
    module = types.ModuleType("fedmosaic.algorithms.fedavgm")
    exec(compile(source, "CONTRIBUTING.md", "exec"), module.__dict__)  # our own page, not data
    monkeypatch.setitem(sys.modules, "fedmosaic.algorithms.fedavgm", module)
    monkeypatch.setitem(algorithms.TABLE, "fedavgm", "fedavgm:FedAvgM")

    def means(algorithm: str, *change: str) -> list[Tensor]:
        """The average of llama-8x96's two clients after the second and the third round."""
        quick = ("evaluation={every: 0, items: 1, others: false}", *change)
        options = {
            "algorithm": algorithm,
            "set": quick,
            "workers": 1,
            "progress": False,
            "trackers": (),
        }
        run = fedmosaic.run(tiny, out=tmp_path / f"{algorithm}{change}".replace("/", ""), **options)
        key = "mean@miniature/llama-8x96\nminiature/llama-8x96"
        folders = [run.folder / "checkpoints" / f"round-000{rounds}" for rounds in (2, 3)]
        return [read_tensors(folder / "server.safetensors")[0][key] for folder in folders]

    plain = means("fedavg")
    still = means("fedavgm", "algorithms.fedavgm.momentum=0")
    assert all(torch.allclose(one, two, atol=1e-4) for one, two in zip(plain, still, strict=True))
    moved = means("fedavgm", "algorithms.fedavgm.momentum=0.5")
    assert torch.equal(moved[0], still[0])  # the first velocity is the first step
    assert not torch.allclose(moved[1], still[1], atol=1e-4)
