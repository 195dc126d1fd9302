"""Test which Co-LoRA sites models share, and what is told of the modules without adapters."""

from __future__ import annotations

from typing import Any

import pytest
from test_adapter_roles import SETTINGS, backbone

from fedmosaic.adapters.coverage import adapted
from fedmosaic.adapters.placement import Placement
from fedmosaic.adapters.sharing import shared_sites, with_shared_sites
from fedmosaic.config import AdapterSettings
from fedmosaic.errors import ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.roles import PROJECTIONS


def named(name: str, family: str, **changes: Any) -> Backbone:
    found = backbone(family, **changes)
    found.name = name
    return found


def settings(**changes: Any) -> AdapterSettings:
    return AdapterSettings.model_validate({**SETTINGS.model_dump(), **changes})


HYBRID = {"layer_types": ["conv", "conv", "full_attention", "full_attention"]}


def hybrid() -> Backbone:
    return named("hybrid", "Lfm2", num_hidden_layers=4, **HYBRID)


@pytest.mark.parametrize(
    ("other", "shared"),
    [
        ("Phi3", ("o_proj", "down_proj")),
        ("GPT2", ("o_proj", "up_proj", "down_proj")),
        ("Mixtral", ("q_proj", "k_proj", "v_proj", "o_proj")),
        ("Llama", PROJECTIONS),
    ],
)
def test_models_share_the_roles_that_both_have(other: str, shared: tuple[str, ...]) -> None:
    assert shared_sites([backbone("Llama"), backbone(other)], SETTINGS) == (shared,)


def test_where_all_models_have_all_projections_the_settings_stay_as_they_are() -> None:
    """Alignments that come with the package were made with these settings."""
    assert with_shared_sites([backbone("Llama"), backbone("Llama")], SETTINGS) is SETTINGS


def test_what_is_shared_is_written_into_the_settings() -> None:
    found = with_shared_sites([backbone("Llama"), backbone("Phi3")], SETTINGS)
    assert found.shared_modules == ("o_proj", "down_proj")
    assert [site.key for site in Placement.of(found).sites([1])] == [
        "block.0.o_proj",
        "block.0.down_proj",
    ]


def test_layers_of_other_kinds_at_block_ends_share_what_they_have() -> None:
    found = with_shared_sites(
        [hybrid(), named("llama", "Llama", num_hidden_layers=4)], settings(num_blocks=2)
    )
    first = ("gate_proj", "up_proj", "down_proj")
    assert found.shared_modules == (first, PROJECTIONS)
    keys = [site.key for site in Placement.of(found).sites([1, 3])]
    assert keys == [f"block.0.{m}" for m in first] + [f"block.1.{m}" for m in PROJECTIONS]


def test_ends_chosen_by_cka_share_what_every_layer_has() -> None:
    found = shared_sites([hybrid()], settings(num_blocks=2, block_rule="cka"))
    assert found == (("gate_proj", "up_proj", "down_proj"),) * 2


def test_two_models_without_a_common_site_are_both_named() -> None:
    models = [named("a", "Llama"), named("b", "Llama"), named("c", "GPT2")]
    with pytest.raises(ModelError, match=r"models 'a' and 'c' have no .*adapter\.target_modules"):
        shared_sites(models, settings(target_modules=["q_proj", "qkv_proj"]))


def test_a_role_of_one_family_alone_may_be_adapted() -> None:
    """A mixed federation names the projections of all of its families."""
    chosen = settings(target_modules=["q_proj", "qkv_proj", "o_proj"])
    assert shared_sites([backbone("Llama"), backbone("Phi3")], chosen) == (("o_proj",),)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_modules": ["o_proj", "fc7"]}, r"adapter\.target_modules: 'a', 'b' have no .*fc7"),
        ({"shared_modules": ["o_porj"]}, r"adapter\.shared_modules: 'a' has no .*'o_porj'.*o_proj"),
        (
            {"shared_modules": ["q_proj"]},
            r"adapter\.shared_modules: 'b' has no adapted module 'q_proj' .*: o_proj, down_proj",
        ),
        (
            {"shared_modules": ["o_proj"], "target_modules": ["q_proj", "down_proj"]},
            r"adapter\.shared_modules: 'o_proj' of 'a' .*adapter\.target_modules leaves it out",
        ),
        ({"shared_modules": [["o_proj"]] * 3}, r"lists for 3 blocks, but .*num_blocks is 1"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        shared_sites([named("a", "Llama"), named("b", "Phi3")], settings(**changes))


def test_a_models_own_name_is_shared_under_its_role() -> None:
    found = with_shared_sites([backbone("GPT2")], settings(shared_modules=["c_proj"]))
    assert found.shared_modules == ("o_proj", "down_proj")


def test_a_models_own_name_that_means_something_else_elsewhere_is_refused() -> None:
    models = [named("a", "GPT2"), named("b", "Starcoder2")]
    with pytest.raises(ModelError, match=r"'c_proj' is o_proj, down_proj in 'a', but down_proj in"):
        shared_sites(models, settings(shared_modules=["c_proj"]))


def test_coverage_counts_layers_parameters_and_names_what_is_left_out() -> None:
    base = backbone("Mixtral")
    found = adapted(base, SETTINGS)
    attention = 2 * 2 * (32 * 32 + 16 * 32)
    total = sum(parameter.numel() for parameter in base.model.parameters())
    assert (found.layers, found.adapted_layers) == (2, 2)
    assert found.share == pytest.approx(attention / total)
    assert found.roles == dict.fromkeys(PROJECTIONS[:4], 2)
    left = {part.part: part.share * total for part in found.left_out}
    experts = 2 * 4 * 3 * 32 * 48
    assert left == pytest.approx(
        {"experts": experts, "embeddings": 64 * 32, "head": 64 * 32, "routers": 2 * 4 * 32}
    )


def test_modules_that_the_settings_leave_out_are_named() -> None:
    found = adapted(backbone("Llama"), settings(target_modules=["o_proj"]))
    (part,) = [part for part in found.left_out if "q_proj" in part.part]
    assert part.part == "q_proj, k_proj, v_proj, gate_proj, up_proj, down_proj"
    assert part.reason == "adapter.target_modules leaves it out"
