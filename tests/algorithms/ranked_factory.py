"""Make adapters of different ranks on weights that are not square, and a server for them."""

from __future__ import annotations

from typing import Any

import torch
from stub_server import StubServer
from torch import Tensor

from fedmosaic.algorithms import Message, make_algorithm
from fedmosaic.algorithms.base import Member
from fedmosaic.config import Scenario
from fedmosaic.config.load import parse
from fedmosaic.seeding import generator

SHAPES = {"layer.0.q_proj": (7, 5), "layer.1.down_proj": (6, 11)}
SCALE = 2.5


def federation(
    algorithm: str, ranks: list[int], models: list[str] | None = None, **sections: Any
) -> tuple[Any, Any]:
    """Return an algorithm and its server; client ``c<i>`` has ``ranks[i]`` and 10 + i samples."""
    models = models or ["m"] * len(ranks)
    clients = [
        {"name": f"c{i}", "model": model, "tasks": ["t"], "r": rank}
        for i, (rank, model) in enumerate(zip(ranks, models, strict=True))
    ]
    content = {"clients": clients, "rounds": 3, "adapter": {"r": 4, "alpha": 4 * SCALE}, **sections}
    scenario = parse(Scenario, content, "test")
    members = [
        Member(name=f"c{i}", architecture=model, samples=10 + i) for i, model in enumerate(models)
    ]
    return make_algorithm(algorithm, scenario, 0), StubServer(members)


def updates_of(
    algorithm: Any, ranks: list[int], architecture: str = "m", seed: int = 0
) -> dict[str, Message]:
    """Return random updates as the algorithm's clients would send them, without a frozen A."""
    shared = getattr(algorithm, "shared", ("A", "B"))
    found = {}
    for index, rank in enumerate(ranks):
        tensors = adapter(rank, index, seed)
        found[f"c{index}"] = Message(
            {key: value for key, value in tensors.items() if key[-1] in shared}
        )
    return found


def adapter(rank: int, *name: int) -> dict[str, Tensor]:
    noise = generator("ranked", *name)
    tensors = {}
    for module, (d_out, d_in) in SHAPES.items():
        tensors[f"{module}.A"] = torch.randn(rank, d_in, generator=noise)
        tensors[f"{module}.B"] = torch.randn(d_out, rank, generator=noise)
    return tensors


def deltas(tensors: dict[str, Tensor], scale: float = SCALE) -> dict[str, Tensor]:
    """Return ΔW of each module, float64."""
    return {m: scale * tensors[f"{m}.B"].double() @ tensors[f"{m}.A"].double() for m in SHAPES}


def mean(each: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of the clients' ΔW, weighted by 10 + i samples."""
    samples = [10 + i for i in range(len(each))]
    return {
        m: sum(n * delta[m] for n, delta in zip(samples, each, strict=True)) / sum(samples)
        for m in SHAPES
    }


def close(left: Tensor, right: Tensor, tolerance: float = 1e-6) -> bool:
    """Return whether two matrices agree up to a share of the norm."""
    return bool((left.double() - right.double()).norm() <= tolerance * right.double().norm())


def best(matrix: Tensor, rank: int) -> Tensor:
    """Return the closest matrix of a rank."""
    u, sigma, vh = torch.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] * sigma[:rank] @ vh[:rank]
