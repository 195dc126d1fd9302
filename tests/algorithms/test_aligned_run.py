"""FedMosaic on aligned subspaces: what the scenario aligns is what the adapters carry, and a run goes on from it bit for bit."""

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


def site_of(path: Path, *changes: str) -> Runtime:
    runtime = Runtime(RunSettings(name="tiny", scenario=load_scenario(path, [*SET, *changes])))
    runtime.use(resolve(runtime))
    return runtime


def test_the_adapters_carry_the_aligned_pairs(tiny: Path) -> None:
    runtime = site_of(tiny)
    assert runtime.scenario.alignment.pivot == "miniature/llama-8x96"
    for name in runtime.scenario.models_used:
        aligned = runtime.alignment(name)
        assert aligned is not None
        carried = shared_state(runtime.adapted(name).model)
        assert set(carried) == set(aligned.tensors)
        for key, value in carried.items():  # calibration scales each as a whole
            ratio = value / aligned.tensors[key]
            torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=1e-5)


def test_the_control_turns_every_architectures_pairs_apart(tiny: Path) -> None:
    plain, apart = site_of(tiny), site_of(tiny, "algorithms={fedmosaic: {turned: true}}")
    rotations = []
    for name in plain.scenario.models_used:
        aligned, carried = (
            shared_state(plain.adapted(name).model),
            shared_state(apart.adapted(name).model),
        )
        for key, value in carried.items():
            before = aligned[key]
            kept = (
                (value.T @ value, before.T @ before)
                if key.endswith("A")
                else (value @ value.T, before @ before.T)
            )
            torch.testing.assert_close(*kept, atol=1e-5, rtol=1e-4)
        rotations.append(
            carried["block.0.o_proj.A"] @ torch.linalg.pinv(aligned["block.0.o_proj.A"])
        )
    first, second, _ = rotations
    assert (first - torch.eye(6)).norm() > 1 and (first - second).norm() > 1


def test_what_is_shared_has_its_own_rank_and_modules(tiny: Path) -> None:
    state = read_state(site_of(tiny).adapted("miniature/qwen2-10x112").model, "local")
    shared = {key: value for key, value in state.items() if key.startswith("block.")}
    assert {key.split(".")[2] for key in shared} == {"o_proj", "down_proj"}
    assert all(value.shape[0] == 6 for value in shared.values())
    assert state["layer.9.q_proj.A"].shape == (4, 112)  # at the last block's end, not shared


def test_other_algorithms_align_nothing(tiny: Path) -> None:
    settings = RunSettings(name="tiny", algorithm="sft", scenario=load_scenario(tiny, SET))
    assert Runtime(settings).alignment("miniature/qwen2-10x112") is None


def test_alignment_without_public_data_is_told_before_training(tiny: Path) -> None:
    with pytest.raises(DataError, match=r"alignment: .*public"):
        site_of(tiny, "data.public=none")


def test_pulling_p_alone_starts_every_round_from_what_was_received(tiny: Path) -> None:
    """With pull_shared 1 the local P is the received one; LoRA stays the client's own."""
    from fedmosaic.algorithms.message import Message

    runtime = site_of(tiny, "algorithms.fedmosaic.pull_shared=1")
    adapted = runtime.adapted("miniature/llama-8x96")

    class Turn:
        model = adapted.model

    before = read_state(adapted.model, "local")
    download = {key: torch.full_like(value, 0.25) for key, value in before.items()}
    runtime.algorithm.receive(Turn(), Message(download))  # type: ignore[arg-type]
    for key, value in read_state(adapted.model, "local").items():
        torch.testing.assert_close(
            value, download[key] if key.startswith("block.") else before[key]
        )


def test_a_run_on_aligned_subspaces_is_the_same_in_processes_of_its_own(
    tiny: Path, tmp_path: Path
) -> None:
    summaries = []
    for workers in (1, 2):
        out = tmp_path / f"workers-{workers}"
        run = fedmosaic.run(
            tiny,
            rounds=1,
            set=[*SET, "data.test=2"],
            out=out,
            workers=workers,
            progress=False,
            trackers=(),
        )
        summaries.append({key: run.summary[key] for key in ("self", "others", "clients")})
    assert json.dumps(summaries[0]) == json.dumps(summaries[1])
