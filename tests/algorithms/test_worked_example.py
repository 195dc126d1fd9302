"""Run the algorithm that CONTRIBUTING.md adds in one file, and check its formula."""

from __future__ import annotations

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from staged_clients import start
from torch import Tensor

from fedmosaic import algorithms
from fedmosaic.algorithms.common.average import averaged
from fedmosaic.algorithms.layout import Layout
from fedmosaic.algorithms.state import ServerState
from fedmosaic.federation.wire import read_tensors


def test_the_example_of_the_contributing_page_runs(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()
    source = next(
        code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "class FedAvgM" in code
    )
    assert len(source.splitlines()) < 80
    file = tmp_path / "fedavgm.py"
    file.write_text(source)
    spec = spec_from_file_location("fedmosaic.algorithms.fedavgm", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fedmosaic.algorithms.fedavgm", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(algorithms.TABLE, "fedavgm", "fedavgm:FedAvgM")

    def means(algorithm: str, *changes: str) -> list[Tensor]:
        """Return the average of llama-8x96's two clients after the second and third round."""
        run = start(tiny, tmp_path / f"{algorithm}{changes}", algorithm, *changes, rounds=3)
        found = []
        for rounds in (2, 3):
            folder = run.folder / "checkpoints" / f"round-000{rounds}"
            tensors, scalars = read_tensors(folder / "server.safetensors")
            state = ServerState([])
            state.load_state_dict(tensors, scalars["layout"])
            mean = averaged(SimpleNamespace(state=state), "miniature/llama-8x96")  # type: ignore[arg-type]
            found.append(Layout.of(mean).flatten(mean, "mean"))
        return found

    plain = means("fedavg")
    still = means("fedavgm", "algorithms.fedavgm.momentum=0")
    assert all(torch.allclose(one, two, atol=1e-4) for one, two in zip(plain, still, strict=True))
    moved = means("fedavgm", "algorithms.fedavgm.momentum=0.5")
    assert torch.equal(moved[0], still[0])  # the first velocity is the first step
    assert not torch.allclose(moved[1], still[1], atol=1e-4)
