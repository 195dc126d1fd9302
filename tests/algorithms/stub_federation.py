"""Make a federation of clients that only send random updates, for tests of aggregation."""

from __future__ import annotations

from typing import Any

import torch
from stub_server import StubServer

from fedmosaic.algorithms import Message, make_algorithm
from fedmosaic.algorithms.base import Member
from fedmosaic.config import Scenario
from fedmosaic.config.load import parse

ARCHITECTURES = ["small", "large", "small", "large", "alone"]


def federation(algorithm: str, architectures: list[str], **sections: Any) -> tuple[Any, Any]:
    """Return an algorithm and its server; client ``c<i>`` has 10 + i samples."""
    clients = [
        {"name": f"c{i}", "model": model, "tasks": ["t"]} for i, model in enumerate(architectures)
    ]
    scenario = parse(Scenario, {"clients": clients, **sections}, "test")
    members = [
        Member(name=f"c{i}", architecture=model, samples=10 + i)
        for i, model in enumerate(architectures)
    ]
    return make_algorithm(algorithm, scenario, 0), StubServer(members)


def update(index: int, architecture: str, signature: list[float] | None = None) -> Message:
    """Return a random update of a client of FedMosaic."""
    noise = torch.Generator().manual_seed(index)
    width = {"small": 4, "large": 6, "alone": 5}[architecture]
    tensors = {
        "block.0.q_proj.P": torch.randn(3, 3, generator=noise),
        "block.0.q_proj.Q": torch.randn(3, generator=noise),
        "layer.0.q_proj.A": torch.randn(3, width, generator=noise),
        "layer.0.q_proj.B": torch.randn(width, 3, generator=noise),
        "signature": torch.tensor(signature) if signature else torch.randn(8, generator=noise),
    }
    return Message(tensors)


def updates_of(architectures: list[str]) -> dict[str, Message]:
    """Return a random update of every client."""
    return {f"c{i}": update(i, architecture) for i, architecture in enumerate(architectures)}
