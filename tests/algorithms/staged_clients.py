"""Make the clients of the tiny scenario, and short runs of it, for tests of one algorithm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

import fedmosaic
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import read_tensors

MODELS = ("miniature/llama-8x96", "miniature/qwen2-10x112", "miniature/llama-12x128")


def stage(tiny: Path, algorithm: str, *overrides: str) -> dict[str, Any]:
    """Return the clients before the first round, by name."""
    scenario = load_scenario(tiny, [f"relevance.model={MODELS[0]}", *overrides])
    settings = RunSettings(name="stage", algorithm=algorithm, scenario=scenario)
    return InProcess(Runtime(settings)).clients


def start(
    tiny: Path, out: Path, algorithm: str, *overrides: str, rounds: int = 2, **options: Any
) -> Any:
    """Run the tiny scenario with hardly any evaluation."""
    sets = ["evaluation={every: 0, items: 1, others: false}", *overrides]
    options = {"workers": 1, "progress": False, "trackers": (), "overrides": sets, **options}
    return fedmosaic.run(tiny, algorithm=algorithm, out=out, rounds=rounds, **options)


def state_of(run: Any, client: str, after_rounds: int) -> dict[str, Tensor]:
    """Return a client's tensors from the checkpoint after so many rounds."""
    checkpoint = run.folder / "checkpoints" / f"round-{after_rounds:04d}"
    return read_tensors(checkpoint / "clients" / f"{client}.safetensors")[0]
