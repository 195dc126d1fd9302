"""Test in float64 that training together is training one by one, over rounds of unequal clients.

In float32 the two drift apart by rounding, which hides a small fault. Here they have 1e-9 of room.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, LlamaRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm, Qwen2RotaryEmbedding

from fedmosaic.algorithms import Message
from fedmosaic.config import RunSettings, Scenario
from fedmosaic.config.load import parse
from fedmosaic.data.stream import ClientStream
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.together import JointModel
from fedmosaic.federation.transport import InProcess
from fedmosaic.federation.wire import pack
from fedmosaic.models.backbone import Backbone
from fedmosaic.training import together as training
from tiny_scenario import TINY

ROUNDS, STEPS = 4, 3
LLAMA, QWEN = "miniature/llama-8x96", "miniature/qwen2-10x112"
TASKS = {"miniature/stages-0": (8, 3), "miniature/idiom-3": (5, 2), "miniature/stages-2": (3, 1)}
"""Items and batch size of each client's task."""


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that a model computes in float32, whatever its dtype, stay float64."""
    narrow = torch.Tensor.float

    def wide(x: torch.Tensor) -> torch.Tensor:
        return x if x.dtype == torch.float64 else narrow(x)

    def norm(self: Any, x: torch.Tensor) -> torch.Tensor:
        size = x.square().mean(-1, keepdim=True) + self.variance_epsilon
        return self.weight * x * torch.rsqrt(size)

    def turn(self: Any, x: torch.Tensor, position_ids: torch.Tensor) -> Any:
        angles = position_ids[..., None].double() * self.inv_freq.double()
        angles = torch.cat([angles, angles], dim=-1)
        return angles.cos().to(x.dtype), angles.sin().to(x.dtype)

    monkeypatch.setattr(torch.Tensor, "float", wide)
    for kind in (LlamaRMSNorm, Qwen2RMSNorm):
        monkeypatch.setattr(kind, "forward", norm)
    for rotation in (LlamaRotaryEmbedding, Qwen2RotaryEmbedding):
        monkeypatch.setattr(rotation, "forward", turn)


def trained(algorithm: str, model: str, together: int, **adapter: Any) -> list[dict[str, Any]]:
    """Return each client's losses, adapters and moments after all rounds.

    The second client is absent in round 1, so that its moments are younger than the others'.
    """
    content: dict[str, Any] = {
        **TINY,
        "rounds": ROUNDS,
        "clients": [
            {"name": name, "model": model, "tasks": [task]}
            for name, task in zip("abc", TASKS, strict=True)
        ],
        "models": {"dtype": "float64"},
        "adapter": TINY["adapter"] | adapter,
        "relevance": {"every": 9, "model": LLAMA},
        "train": {
            **TINY["train"],
            "steps": STEPS,
            "schedule": "cosine",
            "weight_decay": 0.1,
            "clip": 0.05,
            "together": together,
        },
    }
    scenario = parse(Scenario, content, "rounds")
    clients = InProcess(Runtime(RunSettings(name="t", algorithm=algorithm, scenario=scenario)))
    for client, (items, batch) in zip(clients.clients.values(), TASKS.values(), strict=True):
        client.stream = ClientStream(
            [replace(task, train=task.train[:items]) for task in client.stream.tasks],
            rounds=ROUNDS,
            steps_per_round=STEPS,
            batch_size=batch,
            seed_parts=(client.name,),
        )
    losses: dict[str, list[float]] = {name: [] for name in clients.clients}
    for number in range(ROUNDS):
        asked = {n: Instructions(number) for n in losses if (n, number) != ("b", 1)}
        for name, result in clients.exchange(asked, dict.fromkeys(asked, pack(Message()))):
            assert result.fit and not result.failure
            losses[name].append(result.fit.loss)
    return [
        {"losses": torch.tensor(losses[name]).double(), **client._adapters, **client._moments}
        for name, client in clients.clients.items()
    ]


@pytest.mark.parametrize(
    ("algorithm", "model", "dropout", "is_padded"),
    [
        ("fedavg", LLAMA, 0.0, False),
        ("fedavg", QWEN, 0.1, True),
        ("fedmosaic", LLAMA, 0.1, False),
        ("fedmosaic", QWEN, 0.0, True),
    ],
)
def test_rounds_of_unequal_clients_are_those_of_one_by_one(
    algorithm: str, model: str, dropout: float, is_padded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    single = trained(algorithm, model, 1, dropout=dropout)
    sizes: list[int] = []
    train = JointModel.train

    def noted(self: JointModel, clients: Any, turns: Any) -> Any:
        sizes.append(len(clients))
        return train(self, clients, turns)

    monkeypatch.setattr(JointModel, "train", noted)
    rows: list[bool] = []
    takes_unpadded = training.takes_unpadded

    def takes(backbone: Backbone, items: Any) -> bool:
        rows.append(takes_unpadded(backbone, items) and not is_padded)
        return rows[-1]

    monkeypatch.setattr(training, "takes_unpadded", takes)
    jointly = trained(algorithm, model, 3, dropout=dropout)
    assert sizes == [3, 2, 3, 3] and set(rows) == {not is_padded}
    for found, expected in zip(jointly, single, strict=True):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            torch.testing.assert_close(found[key], value, rtol=1e-9, atol=1e-9, msg=key)
