"""Test that LoRA and Co-LoRA adapt the same modules of every family, and are exact on them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from peft import PeftModel
from peft.tuners.lora.layer import LoraLayer

from fedmosaic.adapters import export_to_folder, read_state, shared_state
from fedmosaic.adapters.layer import AdaptedLinear
from fedmosaic.adapters.targets import targets
from fedmosaic.algorithms.common.colora import build_colora
from fedmosaic.algorithms.common.lora import build_lora
from fedmosaic.config import AdapterSettings, Scenario
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from tests.tiny_config import SIZES

MORE: dict[str, dict[str, Any]] = {
    "GPT2": {"head_dim": None},
    "GPTNeoX": {"head_dim": None},
    "DeepseekV3": {
        **{"head_dim": None, "first_k_dense_replace": 1, "n_routed_experts": 4, "n_group": 1},
        **{"q_lora_rank": 8, "kv_lora_rank": 8, "topk_group": 1, "moe_intermediate_size": 16},
        **{"qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "num_experts_per_tok": 2},
    },
    "Mixtral": {"num_local_experts": 4},
    "Lfm2": {"layer_types": ["conv", "full_attention"]},
}
FAMILIES = ("Llama", "Phi3", "GPT2", "GPTNeoX", "Mixtral", "DeepseekV3", "Lfm2")
SETTINGS = AdapterSettings(r=4, alpha=8, num_blocks=1, dropout=0)


def backbone(family: str, **changes: Any) -> Backbone:
    sizes = {**SIZES, "head_dim": 8, **MORE.get(family, {}), **changes}
    sizes = {key: value for key, value in sizes.items() if value is not None}
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        getattr(transformers, f"{family}Config")(**sizes)
    )
    tokenizer: Any = SimpleNamespace(eos_token_id=2, pad_token_id=0)
    return Backbone(family.lower(), model.eval(), tokenizer)


def scenario(adapter: AdapterSettings = SETTINGS) -> Scenario:
    clients = [{"name": "a", "model": "x", "tasks": ["t"]}]
    return Scenario.model_validate({"clients": clients, "adapter": adapter})


def colora(base: Backbone, adapter: AdapterSettings = SETTINGS) -> Any:
    return build_colora(base, [], None, {}, adapter, 0)


def adapted_paths(model: PeftModel) -> set[str]:
    return {
        path.removeprefix("base_model.model.")
        for path, module in model.named_modules()
        if isinstance(module, (AdaptedLinear, LoraLayer))
    }


def moved(model: Any) -> Any:
    """Give all adapters random weights."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def logits(model: Any) -> torch.Tensor:
    ids = torch.randint(3, 60, (2, 7), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_all_algorithms_adapt_the_same_modules(family: str) -> None:
    base = backbone(family)
    expected = {
        f"{base.layers_prefix}.{module.layer}.{module.path}"
        for layer in targets(base)
        for module in layer
    }
    assert adapted_paths(build_lora(base, SETTINGS, 0)) == expected
    assert adapted_paths(colora(base)) == expected


@pytest.mark.parametrize("family", FAMILIES)
def test_the_canonical_names_are_roles(family: str) -> None:
    base = backbone(family)
    lora = read_state(build_lora(base, SETTINGS, 0), "local")
    expected = {f"layer.{m.layer}.{m.role}" for layer in targets(base) for m in layer}
    assert {key.rpartition(".")[0] for key in lora} == expected
    shared = {key.rpartition(".")[0] for key in shared_state(colora(base))}
    assert shared == {f"block.0.{module.role}" for module in targets(base)[-1]}


@pytest.mark.parametrize("init", ["random", "svd"])
def test_colora_on_transposed_weights_merges_and_exports_exactly(
    init: Any, tmp_path: Any, recwarn: pytest.WarningsRecorder
) -> None:
    """GPT-2 keeps its weights as [d_in, d_out]."""
    base = backbone("GPT2")
    model = moved(colora(base, SETTINGS.model_copy(update={"shared_init": init})))
    trained = logits(model)
    assert not torch.allclose(trained, logits(base.model), atol=1e-3)
    export_to_folder(model, tmp_path / "lora")
    recwarn.clear()
    plain = PeftModel.from_pretrained(base.fork(), tmp_path / "lora")
    assert not [w for w in recwarn if "fan_in_fan_out" in str(w.message)]
    torch.testing.assert_close(logits(plain), trained, atol=1e-5, rtol=1e-5)
    for layer in model.modules():
        if isinstance(layer, AdaptedLinear):
            layer.merge()
    torch.testing.assert_close(logits(model), trained, atol=1e-5, rtol=1e-5)
    for layer in model.modules():
        if isinstance(layer, AdaptedLinear):
            layer.unmerge()
    torch.testing.assert_close(logits(model), trained, atol=1e-5, rtol=1e-5)


def test_target_modules_are_roles_or_the_models_own_names() -> None:
    base = backbone("GPT2")
    chosen = [module.role for module in targets(base, ["qkv_proj", "c_proj"])[0]]
    assert chosen == ["qkv_proj", "o_proj", "down_proj"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["o_porj"], r"adapter\.target_modules: 'mixtral' has no linear module 'o_porj'.*'o_proj'"),
        (["c_attn"], r"'mixtral' has no linear module 'c_attn'"),
    ],
)
def test_a_name_that_the_model_lacks_is_an_error(names: list[str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build_lora(backbone("Mixtral"), SETTINGS.model_copy(update={"target_modules": names}), 0)


def test_a_router_is_refused_with_the_reason() -> None:
    with pytest.raises(ModelError, match=r"'shared_expert_gate' .*chooses or weights experts"):
        targets(backbone("Qwen2Moe", num_experts=4), ["shared_expert_gate"])


def test_colora_finds_its_modules_without_being_told() -> None:
    """As in plain PEFT, where no scenario names them."""
    from peft import get_peft_model

    from fedmosaic.adapters import CoLoraConfig

    model: Any = get_peft_model(backbone("Phi3").model, CoLoraConfig(r=4, num_blocks=1))
    assert {path.rpartition(".")[2] for path in adapted_paths(model)} == {
        *("qkv_proj", "o_proj", "gate_up_proj", "down_proj")
    }
