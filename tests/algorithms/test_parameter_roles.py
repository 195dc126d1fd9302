"""Check that LoRA, P and Q, and gates train in groups of their own, each at its rate."""

from __future__ import annotations

from pathlib import Path

from fedmosaic.adapters.keys import TensorKey
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.training.optimiser import learning_rate

LLAMA = "miniature/llama-8x96"


def test_every_parameter_is_in_the_group_of_its_kind(tiny: Path) -> None:
    rates = "train={lr: 1e-3, lr_shared: 2e-3, lr_gate: 3e-3}"
    scenario = load_scenario(tiny, [f"relevance.model={LLAMA}", rates])
    client = InProcess(
        Runtime(RunSettings(name="stage", algorithm="fedmosaic", scenario=scenario))
    ).clients["a"]
    groups = {group.role: group for group in client.adapted.optimiser.groups}
    kinds = {
        role: {TensorKey.parse(key).scope for key in group.parameters}
        for role, group in groups.items()
    }
    assert kinds == {"lora": {"layer"}, "shared": {"block"}, "gate": {"gate"}}
    trained = {id(p) for p in client.model.parameters() if p.requires_grad}
    assert {id(p) for group in groups.values() for p in group.parameters.values()} == trained
    assert [learning_rate(role, scenario.train) for role in ("lora", "shared", "gate")] == [
        1e-3,
        2e-3,
        3e-3,
    ]
    given = {group["lr"] for group in client.adapted.optimiser.adamw.param_groups}
    assert given == {1e-3, 2e-3, 3e-3}
