"""Check that the adapter's settings alone decide where the shared adapters are."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmosaic.adapters.placement import PROJECTIONS, Placement
from fedmosaic.config import AdapterSettings, RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.federation.runtime import Runtime

QWEN = "miniature/qwen2-10x112"


def test_the_placement_is_that_of_the_shared_adapters() -> None:
    assert Placement.of(AdapterSettings()) == Placement(16, 4, PROJECTIONS, "depth")
    settings = AdapterSettings(r=4, target_modules=("q_proj", "o_proj"), block_rule="cka")
    assert Placement.of(settings) == Placement(4, 4, ("q_proj", "o_proj"), "cka")
    settings = AdapterSettings(
        num_blocks=2, target_modules=("q_proj",), shared_r=6, shared_modules=("o_proj",)
    )
    assert Placement.of(settings) == Placement(6, 2, ("o_proj",), "depth")


@pytest.mark.parametrize(
    ("rule", "layers"),
    [
        ("depth", [0, 1, 2, 3, 4, 5, 6, 9]),
        ("even", [0, 1, 3, 4, 5, 7, 8, 9]),
        ("cka", [0, 1, 2, 3, 4, 5, 6, 9]),
    ],
)
def test_the_rule_counts_without_an_alignment(tiny: Path, rule: str, layers: list[int]) -> None:
    overrides = ["alignment.method=none", f"adapter.block_rule={rule}", "adapter.num_blocks=8"]
    scenario = load_scenario(tiny, [*overrides, f"relevance.model={QWEN}"])
    runtime = Runtime(RunSettings(name="tiny", scenario=scenario))
    assert runtime.alignment(QWEN) is None
    assert runtime.adapted(QWEN).model.peft_config["local"].block_layers == layers
