"""Check FedMosaic on aligned subspaces: the adapters carry what the scenario aligns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import fedmosaic
from fedmosaic.adapters import read_state, shared_state
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.errors import DataError
from fedmosaic.federation.run import resolve
from fedmosaic.federation.runtime import Runtime

SET = [
    "alignment.method=gradients",
    "data.public_size=24",
    "adapter.target_modules=[q_proj, o_proj, down_proj]",
    "adapter.shared_r=6",
    "adapter.shared_modules=[o_proj, down_proj]",
]


def runtime_of(path: Path, *changes: str, algorithm: str = "fedmosaic") -> Runtime:
    scenario = load_scenario(path, [*SET, *changes])
    runtime = Runtime(RunSettings(name="tiny", algorithm=algorithm, scenario=scenario))
    return runtime.with_settings(resolve(runtime))


def test_the_adapters_carry_the_aligned_pairs(tiny: Path) -> None:
    runtime = runtime_of(tiny)
    assert runtime.scenario.alignment.pivot == "miniature/llama-8x96"
    for name in runtime.scenario.models_used:
        aligned = runtime.alignment(name)
        assert aligned is not None
        carried = shared_state(runtime.adapted(name).model)
        assert set(carried) == set(aligned.tensors)
        for key, value in carried.items():  # calibration scales each as a whole
            ratio = value / aligned.tensors[key]
            torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["fedmosaic-rotated", "fedmosaic-additive-rotated"])
def test_the_control_rotates_every_architectures_pairs_apart(tiny: Path, name: str) -> None:
    plain, apart = runtime_of(tiny), runtime_of(tiny, algorithm=name)
    rotations = []
    for model in plain.scenario.models_used:
        aligned = shared_state(plain.adapted(model).model)
        rotated = shared_state(apart.adapted(model).model)
        for key, value in rotated.items():
            before = aligned[key]
            # A rotation leaves the subspace and its strength as they are.
            pair = (value.T, before.T) if key.endswith("A") else (value, before)
            torch.testing.assert_close(*(x @ x.T for x in pair), atol=1e-5, rtol=1e-4)
        a = "block.0.o_proj.A"
        rotations.append(rotated[a] @ torch.linalg.pinv(aligned[a]))
    first, second, _ = rotations
    assert (first - torch.eye(6)).norm() > 1 and (first - second).norm() > 1


def test_what_is_shared_has_its_own_rank_and_modules(tiny: Path) -> None:
    state = read_state(runtime_of(tiny).adapted("miniature/qwen2-10x112").model, "local")
    shared = {key: value for key, value in state.items() if key.startswith("block.")}
    assert {key.split(".")[2] for key in shared} == {"o_proj", "down_proj"}
    assert all(value.shape[0] == 6 for value in shared.values())
    assert state["layer.9.q_proj.A"].shape == (4, 112)  # at the last block's end, not shared


def test_other_algorithms_align_nothing(tiny: Path) -> None:
    settings = RunSettings(name="tiny", algorithm="sft", scenario=load_scenario(tiny, SET))
    assert Runtime(settings).alignment("miniature/qwen2-10x112") is None


def test_alignment_without_public_data_is_refused_before_training(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"alignment: .*public"):
        runtime_of(tiny, "data.public=none")


def test_a_run_on_aligned_subspaces_is_the_same_in_processes_of_its_own(
    tiny: Path, tmp_path: Path
) -> None:
    summaries = []
    for workers in (1, 2):
        out = tmp_path / f"workers-{workers}"
        run = fedmosaic.run(
            tiny,
            rounds=1,
            overrides=[*SET, "data.test=2"],
            out=out,
            workers=workers,
            progress=False,
            trackers=(),
        )
        summaries.append({key: run.summary[key] for key in ("self", "others", "clients")})
    assert json.dumps(summaries[0]) == json.dumps(summaries[1])
