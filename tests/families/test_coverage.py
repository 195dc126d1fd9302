"""Test that every linear module of every family's decoder is adapted, or named as left out.

The default suite takes a sample; ``make test-families`` takes every family.
"""

from __future__ import annotations

import pytest
from torch import nn
from transformers.pytorch_utils import Conv1D

from fedmosaic.adapters.coverage import adapted
from fedmosaic.adapters.targets import targets
from fedmosaic.config import AdapterSettings
from tests.families import LANGUAGE, VISION
from tests.families.conftest import Load
from tests.families.sample import sample

ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
GATED = {"gate_proj", "up_proj", "down_proj"}
FUSED = {"qkv_proj", "o_proj", "up_proj", "down_proj"}
FUSED_GATE = ATTENTION | {"gate_up_proj", "down_proj"}
FUSED_BOTH = {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}
STATE_SPACE = {"in_proj"}
UNGATED = ATTENTION | {"up_proj", "down_proj"}
ROLES: dict[str, set[str]] = {
    **dict.fromkeys(("gpt2", "gpt_neox", "falcon", "falcon_alibi", "bloom", "mpt"), FUSED),
    **dict.fromkeys(("glm4v", "glm", "glm4"), FUSED_GATE),
    **dict.fromkeys(("phi", "starcoder2", "opt", "xglm"), UNGATED),
    **dict.fromkeys(("phi3", "phi4"), FUSED_BOTH),
    **dict.fromkeys(("mixtral", "qwen3_moe", "gpt_oss"), ATTENTION),
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba"), STATE_SPACE),
    "deepseek_v3": {"q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"},
    "lfm2": ATTENTION | GATED | {"in_proj", "out_proj"},
    "jamba": ATTENTION | GATED | {"in_proj", "x_proj", "out_proj"},
    "qwen3_next": ATTENTION | {"in_proj_qkvz", "in_proj_ba", "out_proj"},
    "qwen3_5": ATTENTION
    | GATED
    | {"in_proj_qkv", "in_proj_z", "in_proj_a", "in_proj_b", "out_proj"},
    "granitemoehybrid": FUSED_GATE | {"in_proj"},
}
"""Roles of the adapted modules; of all other families attention and a gated MLP."""
BY_LAYER = {"per_layer_input_gate", "per_layer_projection"}
EXPERT_NAMES = {f"mlp.shared_expert.{name}" for name in GATED}
LEFT_OUT: dict[str, set[str]] = {
    "gemma4": BY_LAYER,
    "gemma4_text": BY_LAYER,
    "gemma3n_text": BY_LAYER
    | {"altup.correction_coefs", "altup.prediction_coefs", "altup.modality_router"}
    | {"laurel.linear_left", "laurel.linear_right"},
    "qwen2_moe": {"mlp.shared_expert_gate"},
    "qwen3_next": {"mlp.shared_expert_gate"} | EXPERT_NAMES,
    "deepseek_v3": {f"mlp.{name}" for name in GATED}
    | {f"mlp.shared_experts.{name}" for name in GATED},
    "jamba": {"mamba.dt_proj"},
    "granitemoehybrid": {"mamba.out_proj"},
    "mamba": {"mixer.x_proj", "mixer.dt_proj", "mixer.out_proj"},
    "falcon_mamba": {"mixer.x_proj", "mixer.dt_proj", "mixer.out_proj"},
    "mamba2": {"mixer.out_proj"},
}
"""Linear modules of decoder layers without adapters; no other family has one."""
PROJECTED = {"gemma3n_text", "gemma4", "gemma4_text"}  # what each layer takes, from a table
ROUTERS = {"shared_expert_gate", "modality_router"}
NAMES = [name for name in (*VISION, *LANGUAGE) if name != "mllama"]


@pytest.mark.parametrize(
    "name",
    sample(
        NAMES,
        *("llava_next", "qwen2_vl", "gemma4", "llama", "phi3", "gpt2", "gemma3n_text", "jamba"),
        *("deepseek_v3", "gpt_oss", "opt"),
    ),
)
def test_what_is_adapted_and_what_is_left_out(load: Load, name: str) -> None:
    base = load(name)
    prefix = f"{base.layers_prefix}."
    linear = {
        path.removeprefix(prefix)
        for path, module in base.model.named_modules()
        if path.startswith(prefix) and isinstance(module, nn.Linear | Conv1D)
    }
    chosen = [module for layer in targets(base) for module in layer]
    paths = {f"{module.layer}.{module.path}" for module in chosen}
    assert paths <= linear and len(paths) == len(chosen)
    assert {module.role for module in chosen} == ROLES.get(name, ATTENTION | GATED)
    left = {path.partition(".")[2] for path in linear - paths}
    assert left == LEFT_OUT.get(name, set())

    coverage = adapted(base, AdapterSettings())
    named = {part for group in coverage.left_out for part in group.part.split(", ")}
    assert {path.rpartition(".")[2] for path in left} - ROUTERS <= named
    assert "routers" in named or not {path.rpartition(".")[2] for path in left} & ROUTERS
    assert ("vision tower and projector" in named) == (name in VISION)
    assert ("projections outside the layers" in named) == (name in PROJECTED)
    unnamed = 1 - coverage.share - sum(group.share for group in coverage.left_out)
    assert 0 <= unnamed < 0.06, "norms, biases and convolutions are all that is not named"
