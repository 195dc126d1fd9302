"""Test the roles of linear modules in models of many families, and what cannot be adapted."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import transformers

from fedmosaic.models.roles import PROJECTIONS, RoleModule, find_roles, roles_by_path
from fedmosaic.models.structure import find_structure
from tests.tiny_config import SIZES

LLAMA = {
    "self_attn.q_proj": "q_proj",
    "self_attn.k_proj": "k_proj",
    "self_attn.v_proj": "v_proj",
    "self_attn.o_proj": "o_proj",
    "mlp.gate_proj": "gate_proj",
    "mlp.up_proj": "up_proj",
    "mlp.down_proj": "down_proj",
}
SEPARATE = {key: role for key, role in LLAMA.items() if role in ("q_proj", "k_proj", "v_proj")}
ATTENTION = {key: role for key, role in LLAMA.items() if key.startswith("self_attn")}
MLA = {
    **{f"self_attn.{name}": name for name in ("q_a_proj", "q_b_proj", "kv_a_proj_with_mqa")},
    "self_attn.kv_b_proj": "kv_b_proj",
    "self_attn.o_proj": "o_proj",
}
FUSED_NEOX = {
    "dense_h_to_4h": "up_proj",
    "dense_4h_to_h": "down_proj",
    "query_key_value": "qkv_proj",
    "dense": "o_proj",
}
W = {f"feed_forward.{n}": r for n, r in zip(("w1", "w3", "w2"), PROJECTIONS[4:], strict=True)}
FAMILIES: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    "Llama": ({}, [LLAMA, LLAMA]),
    "Qwen3": ({}, [LLAMA, LLAMA]),
    "Gemma2": ({}, [LLAMA, LLAMA]),
    "Gemma4Text": ({"num_kv_shared_layers": 0}, [LLAMA, LLAMA]),
    "Phi": (
        {},
        [{**SEPARATE, "self_attn.dense": "o_proj", "mlp.fc1": "up_proj", "mlp.fc2": "down_proj"}]
        * 2,
    ),
    "Phi3": (
        {},
        [
            {
                "self_attn.o_proj": "o_proj",
                "self_attn.qkv_proj": "qkv_proj",
                "mlp.gate_up_proj": "gate_up_proj",
                "mlp.down_proj": "down_proj",
            }
        ]
        * 2,
    ),
    "GPT2": (
        {},
        [
            {
                "attn.c_attn": "qkv_proj",
                "attn.c_proj": "o_proj",
                "mlp.c_fc": "up_proj",
                "mlp.c_proj": "down_proj",
            }
        ]
        * 2,
    ),
    "GPTNeoX": (
        {},
        [
            {
                f"{'mlp' if '4h' in name else 'attention'}.{name}": role
                for name, role in FUSED_NEOX.items()
            }
        ]
        * 2,
    ),
    "Bloom": (
        {},
        [
            {
                f"{'mlp' if '4h' in name else 'self_attention'}.{name}": role
                for name, role in FUSED_NEOX.items()
            }
        ]
        * 2,
    ),
    "OPT": (
        {"ffn_dim": 48},
        [{**SEPARATE, "self_attn.out_proj": "o_proj", "fc1": "up_proj", "fc2": "down_proj"}] * 2,
    ),
    "Mpt": (
        {},
        [
            {
                "attn.Wqkv": "qkv_proj",
                "attn.out_proj": "o_proj",
                "ffn.up_proj": "up_proj",
                "ffn.down_proj": "down_proj",
            }
        ]
        * 2,
    ),
    "Starcoder2": ({}, [{**ATTENTION, "mlp.c_fc": "up_proj", "mlp.c_proj": "down_proj"}] * 2),
    "Mixtral": ({"num_local_experts": 4}, [ATTENTION, ATTENTION]),
    "GptOss": ({"num_local_experts": 4}, [ATTENTION, ATTENTION]),
    "Qwen2Moe": (
        {"num_experts": 4},
        [ATTENTION | {f"mlp.shared_expert.{r}": r for r in PROJECTIONS[4:]}] * 2,
    ),
    "DeepseekV3": (
        {"first_k_dense_replace": 1, "q_lora_rank": 8, "n_routed_experts": 4, "n_group": 1},
        [MLA, MLA],
    ),
    "Lfm2": (
        {"layer_types": ["conv", "full_attention"]},
        [
            {"conv.in_proj": "in_proj", "conv.out_proj": "out_proj", **W},
            {**SEPARATE, "self_attn.out_proj": "o_proj", **W},
        ],
    ),
    "Jamba": (
        {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 4},
        [
            {f"mamba.{name}": name for name in ("in_proj", "x_proj", "out_proj")}
            | {f"feed_forward.{role}": role for role in PROJECTIONS[4:]},
            ATTENTION,
        ],
    ),
    "Qwen3Next": (
        {"layer_types": ["linear_attention", "full_attention"], "num_experts": 4},
        [
            {f"linear_attn.{name}": name for name in ("in_proj_qkvz", "in_proj_ba", "out_proj")},
            ATTENTION,
        ],
    ),
    "GraniteMoeHybrid": (
        {
            "layer_types": ["mamba", "attention"],
            "mamba_n_heads": 4,
            "mamba_d_head": 16,
            "num_local_experts": 4,
            "shared_intermediate_size": 32,
        },
        [
            {
                "shared_mlp.input_linear": "gate_up_proj",
                "shared_mlp.output_linear": "down_proj",
                **own,
            }
            for own in ({"mamba.in_proj": "in_proj"}, ATTENTION)
        ],
    ),
    "Mamba": ({}, [{"mixer.in_proj": "in_proj"}] * 2),
}


def roles_of(family: str) -> list[list[RoleModule]]:
    config = getattr(transformers, f"{family}Config")(**SIZES | FAMILIES[family][0])
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config)
    return find_roles(find_structure(model).layers, 32, config.model_type)


@pytest.mark.parametrize("family", FAMILIES)
def test_modules_adapted_by_default_have_the_names_of_llama(family: str) -> None:
    found = [{m.path: m.role for m in layer if m.by_default} for layer in roles_of(family)]
    assert found == FAMILIES[family][1]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_role_is_one_module_of_its_layer(family: str) -> None:
    for layer in roles_of(family):
        roles = [module.role for module in layer]
        assert len(set(roles)) == len(roles)
        assert all(re.fullmatch(r"\w+", role) for role in roles)


@pytest.mark.parametrize(
    ("family", "excluded"),
    [
        ("Qwen2Moe", {"shared_expert_gate": "router"}),
        ("Jamba", {"dt_proj": "read directly"}),
        ("Qwen3Next", {"shared_expert_gate": "router", "up_proj": "taken for expert"}),
        ("DeepseekV3", {"gate_proj": "taken for expert", "down_proj": "taken for expert"}),
        ("Mamba", {"out_proj": "read directly", "x_proj": "read directly"}),
    ],
)
def test_what_no_adapter_can_change_is_left_out(family: str, excluded: dict[str, str]) -> None:
    found = {m.role: m.excluded for layer in roles_of(family) for m in layer if m.excluded}
    assert excluded.items() <= found.items()


def test_modules_of_no_known_part_are_not_adapted_by_default() -> None:
    left = [module.role for module in roles_of("Gemma4Text")[0] if not module.by_default]
    assert left == ["per_layer_input_gate", "per_layer_projection"]


def test_experts_in_a_list_of_modules_are_experts() -> None:
    class Mixture(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = torch.nn.Linear(8, 2)
            experts = [torch.nn.ModuleDict({"w1": torch.nn.Linear(8, 6)}) for _ in range(2)]
            self.experts = torch.nn.ModuleList(experts)

    layer = torch.nn.ModuleDict({"mlp": Mixture()})
    found = {m.path: m.excluded for m in find_roles([layer], 8)[0]}
    assert found == {
        "mlp.gate": "router",
        "mlp.experts.0.w1": "expert",
        "mlp.experts.1.w1": "expert",
    }


def test_a_module_that_layers_share_belongs_to_the_first() -> None:
    shared = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(8, 8)})
    layers = [torch.nn.ModuleDict({"self_attn": shared}) for _ in range(2)]
    assert [[m.role for m in layer] for layer in find_roles(layers, 8)] == [["q_proj"], []]


def test_in_llama_like_models_the_modules_and_their_order_are_those_of_their_names() -> None:
    """The random draws of published runs depend on both."""
    text = transformers.Qwen2Config(**SIZES)
    vision = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes = {**vision, "intermediate_size": 16, "image_size": 28, "patch_size": 14}
    config = transformers.LlavaConfig(
        text_config=text, vision_config=transformers.CLIPVisionConfig(**sizes)
    )
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    names = re.compile(rf"model\.language_model\.layers\.\d+\..*\.({'|'.join(PROJECTIONS)})")
    expected = [path for path, _ in model.named_modules() if names.fullmatch(path)]
    found = [path for path, module in roles_by_path(model).items() if module.by_default]
    assert found == expected
    assert len(found) == 14


def test_a_model_of_another_kind_has_no_roles() -> None:
    assert roles_by_path(torch.nn.Sequential(torch.nn.Linear(2, 2))) == {}
