"""Test which layers carry Co-LoRA, in which order, and which modules are left alone."""

from __future__ import annotations

import pytest
from peft import get_peft_model

from fedmosaic.adapters import CoLoraConfig, CoLoraLinear, LoraLinear, block_ends
from fedmosaic.errors import ModelError
from fedmosaic.models.roles import PROJECTIONS


@pytest.mark.parametrize(
    ("layers", "ends"),
    [
        (16, (3, 7, 11, 15)),
        (28, (6, 13, 20, 27)),
        (24, (5, 11, 17, 23)),
        (10, (1, 3, 5, 9)),
        (4, (0, 1, 2, 3)),
    ],
)
def test_block_ends_are_those_of_the_paper(layers: int, ends: tuple[int, ...]) -> None:
    assert block_ends(layers, 4) == ends


def test_one_block_ends_at_the_last_layer() -> None:
    assert block_ends(7, 1) == (6,)


def test_too_few_layers_names_both_numbers(base) -> None:
    with pytest.raises(ModelError, match=r"3 layers .* 4 blocks"):
        block_ends(3, 4)
    with pytest.raises(ModelError, match=r"6 layers .* 7 blocks"):
        get_peft_model(base("llama"), CoLoraConfig(num_blocks=7))
    with pytest.raises(ModelError, match="num_blocks is 0"):
        block_ends(3, 0)


def test_default_targets_are_the_language_model_alone(base, family: str) -> None:
    model = get_peft_model(base(family), CoLoraConfig(r=4, num_blocks=3))
    found = {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, CoLoraLinear | LoraLinear)
    }
    assert len(found) == 6 * len(PROJECTIONS)
    assert not any("vision" in path or "projector" in path for path in found)
    by_block = {layer.colora_site.block: layer.colora_site.layer for layer in found.values()}
    assert by_block == {None: by_block[None], 0: 1, 1: 3, 2: 5}
    for path, layer in found.items():
        assert f".layers.{layer.colora_site.layer}." in path
        assert path.endswith(layer.colora_site.module)
        assert isinstance(layer, CoLoraLinear) == (layer.colora_site.layer in (1, 3, 5))


def test_vision_tower_is_never_adapted_even_when_named(base) -> None:
    model = get_peft_model(
        base("llava-llama"), CoLoraConfig(r=4, num_blocks=2, target_modules=["q_proj", "fc1"])
    )
    paths = [
        path
        for path, layer in model.named_modules()
        if isinstance(layer, CoLoraLinear | LoraLinear)
    ]
    assert len(paths) == 6 and all("language_model" in path for path in paths)


def test_block_layers_override(base) -> None:
    def colora_layers(block_layers: object) -> list[int]:
        model = get_peft_model(
            base("llama"), CoLoraConfig(r=4, target_modules=["o_proj"], block_layers=block_layers)
        )
        return [m.colora_site.layer for m in model.modules() if isinstance(m, CoLoraLinear)]

    assert colora_layers("all") == [0, 1, 2, 3, 4, 5]
    assert colora_layers([4, 2]) == [2, 4]
    assert colora_layers([]) == []


def test_adapters_of_one_model_must_agree_on_blocks_and_rank(base) -> None:
    model = get_peft_model(base("llama"), CoLoraConfig(r=4, num_blocks=2), adapter_name="a")
    with pytest.raises(ModelError, match="num_blocks"):
        model.add_adapter("b", CoLoraConfig(r=4, num_blocks=3))
    model = get_peft_model(base("llama"), CoLoraConfig(r=4, num_blocks=2), adapter_name="a")
    with pytest.raises(ModelError, match="same r"):
        model.add_adapter(
            "b", CoLoraConfig(r=8, num_blocks=2, target_modules=["q_proj"], layers_to_transform=[2])
        )


def test_only_linear_layers(base) -> None:
    with pytest.raises(ModelError, match="Embedding"):
        get_peft_model(
            base("llama"), CoLoraConfig(target_modules=["embed_tokens"], block_layers="all")
        )
