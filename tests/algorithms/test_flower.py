"""Compare the averages of FedAvg and FedProx with Flower's; its clients bring the proximal term."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from stub_federation import ARCHITECTURES, federation, updates_of
from torch import Tensor

from fedmosaic.engines.flower.environment import flower_variables

ROOT = Path(__file__).parents[2]
MU = 0.1


@pytest.mark.skipif(find_spec("flwr") is None, reason="Flower is not installed")
@pytest.mark.parametrize(("ours", "theirs"), [("fedavg", "FedAvg"), ("fedprox", "FedProx")])
def test_the_average_is_flowers(ours: str, theirs: str, tmp_path: Path) -> None:
    algorithm, server = federation(ours, ARCHITECTURES)
    updates = updates_of(ARCHITECTURES)
    algorithm.aggregate(server, updates)
    for architecture in ("small", "large"):
        members = [member for member in server.members if member.architecture == architecture]
        sent = {
            f"{m.name}/{key}": value
            for m in members
            for key, value in updates[m.name].tensors.items()
        }
        samples = {m.name: m.samples for m in members}
        found, configured = flower(
            theirs, {"proximal_mu": MU} if ours == "fedprox" else {}, sent, samples, tmp_path
        )
        mine = algorithm.download(server, members[0]).tensors
        assert mine.keys() == found.keys() and len(mine) > 2
        for key, value in mine.items():
            torch.testing.assert_close(value, found[key], rtol=1e-6, atol=1e-7)
        assert configured == ({"proximal-mu": MU} if ours == "fedprox" else {})


def flower(
    strategy: str,
    options: dict[str, Any],
    tensors: dict[str, Tensor],
    samples: dict[str, int],
    folder: Path,
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Return the result of a round of Flower's strategy, and the settings that it sent."""
    source, target = folder / "updates.safetensors", folder / "aggregated.safetensors"
    save_file(tensors, source, {"samples": json.dumps(samples)})
    command = [
        sys.executable,
        ROOT / "tests/flower/aggregate.py",
        strategy,
        json.dumps(options),
        source,
        target,
    ]
    variables = os.environ | flower_variables(folder / "flwr")
    subprocess.run(command, check=True, capture_output=True, env=variables)
    with safe_open(target, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["config"])
