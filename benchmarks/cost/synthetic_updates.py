"""Make updates of many synthetic clients of FedMosaic, and a server for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fedmosaic.algorithms import Message
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.state import ServerState
from fedmosaic.algorithms.storage import Storage
from fedmosaic.seeding import generator

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
ARCHITECTURES = ("small", "medium", "large")
RANK, BLOCK_COUNT, GROUPS = 128, 4, 50
# 40 % of the 576 rows of the last down-projection of SmolLM2-135M, 1536 columns.
SIGNATURE = 230 * 1536


class BenchServer:
    """Be an algorithm's server for some members."""

    def __init__(self, members: list[Member], storage: Storage) -> None:
        self.members, self.round = members, 0
        self.receivers: list[str] | None = None
        names = [member.name for member in members]
        sizes = {model: len(names) // 3 + 1 for model in ARCHITECTURES}
        self.state = ServerState(names, storage, sizes)
        self.recorded: dict[str, Any] = {}

    def record(self, name: str, value: Any) -> None:
        """Keep a figure of the round."""
        self.recorded[name] = value

    def generator(self, purpose: str) -> torch.Generator:
        """Return a random generator."""
        return generator("server", self.round, purpose)

    def backbone(self, name: str) -> Any:
        """Raise an error: the algorithm computes with no model."""
        raise NotImplementedError

    def public(self) -> Any:
        """Raise an error: the algorithm needs no public examples."""
        raise NotImplementedError


class Clock:
    """Add up wall and processor seconds of named parts."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = {}
        self.processor: dict[str, float] = {}

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's time for a part."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        self.wall[name] = self.wall.get(name, 0.0) + time.perf_counter() - wall
        self.processor[name] = self.processor.get(name, 0.0) + time.process_time() - processor


def signature(client: int, length: int, groups: list[Tensor], alike: bool = True) -> Tensor:
    """Return a client's signature: its group's direction and noise of its own."""
    draw = generator("signature", client)
    noise = torch.randn(length, generator=draw)
    strength = 0.5 + 1.5 * float(torch.rand((), generator=draw))
    return groups[client % len(groups)] + strength * noise if alike else noise


def update(member: Member, client: int, round_number: int, signed: Tensor, layers: int) -> Message:
    """Return a client's update."""
    draw = generator("update", client, round_number)
    tensors = {"signature": signed}
    for block in range(BLOCK_COUNT):
        for module in MODULES:
            name = f"block.{block}.{module}"
            tensors[f"{name}.P"] = torch.randn(RANK, RANK, generator=draw)
            tensors[f"{name}.Q"] = torch.randn(RANK, generator=draw)
    if layers:
        width = max(1, layers // RANK)
        tensors["layer.0.q_proj.A"] = torch.randn(RANK, width, generator=draw)
    return Message(tensors)


def directions(length: int) -> list[Tensor]:
    """Return the direction of each group."""
    return [torch.randn(length, generator=generator("group", k)) for k in range(GROUPS)]
