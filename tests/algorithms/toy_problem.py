"""Train algorithms on a linear network whose gradients can be written by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stub_server import StubServer
from torch import Tensor, nn

from fedmosaic.adapters import read_state
from fedmosaic.algorithms import make_algorithm
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.message import Message, sent_in_round
from fedmosaic.config import Scenario
from fedmosaic.config.load import parse
from fedmosaic.models.roles import find_roles
from fedmosaic.training.loop import FitReport, fit
from fedmosaic.training.optimiser import Optimiser

WIDTH, RANK, SCALE, STEPS, LR, DEPTH = 4, 2, 2.0, 3, 0.05, 2
SAMPLES = [10, 20, 30]
PRESENT = [(0, 1, 2), (0, 2), (0, 1, 2)]  # who takes part in each round
BETAS, EPS = (0.9, 0.999), 1e-8
State = dict[str, Tensor]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.ModuleDict({"q_proj": nn.Linear(WIDTH, WIDTH, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.attn["q_proj"](x)
        return out


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Block() for _ in range(DEPTH))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def data(client: int, round: int, step: int) -> tuple[Tensor, Tensor]:
    noise = torch.Generator().manual_seed(1000 * client + 10 * round + step)
    x, y = torch.randn(2, 5, WIDTH, generator=noise, dtype=torch.float64)
    return x, y + client


def mean_square(model: Any, _: Any, batch: Any) -> Tensor:
    return 0.5 * (model(batch.x) - batch.y).square().sum() / len(batch.x)


class Adam:
    """Run AdamW without decay on one set of parameters."""

    def __init__(self) -> None:
        self.m: State = {}
        self.v: State = {}
        self.t = 0

    def step(self, theta: State, gradient: State) -> None:
        self.t += 1
        for key, g in gradient.items():
            self.m[key] = BETAS[0] * self.m.get(key, torch.zeros_like(g)) + (1 - BETAS[0]) * g
            self.v[key] = BETAS[1] * self.v.get(key, torch.zeros_like(g)) + (1 - BETAS[1]) * g * g
            m, v = self.m[key] / (1 - BETAS[0] ** self.t), self.v[key] / (1 - BETAS[1] ** self.t)
            theta[key] = theta[key] - LR * m / (v.sqrt() + EPS)


# --- our algorithms on it -------------------------------------------------------------------------
class ToyClient:
    """Implement the part of a client that these algorithms use."""

    def __init__(self, algorithm: Any, base: nn.Module, index: int) -> None:
        self.algorithm, self.index, self.name, self.round = algorithm, index, f"c{index}", 0
        self.state: State = {}
        self.backbone = SimpleNamespace(
            name="net",
            identity="net",
            layers_prefix="layers",
            roles=find_roles(base.layers, WIDTH),  # type: ignore[arg-type]
            fork=lambda: copy.deepcopy(base),
            num_layers=DEPTH,
            hidden_size=WIDTH,
            images=None,
        )
        self.backbone.device = torch.device("cpu")
        self.backbone.encode = lambda example: example
        self.backbone.collate = self._collate
        self.model = algorithm.build(self.backbone, [])
        self.optimiser = Optimiser(algorithm.parameters(self.model), algorithm.scenario.train)
        self.step = 0

    def _collate(self, items: Sequence[int]) -> Any:
        x, y = data(self.index, self.round, items[0])
        return SimpleNamespace(x=x.float(), y=y.float(), labels=y)

    def fit(self, steps: int, *, loss: Any = None, each_step: Any = None) -> FitReport:
        numbers = iter(range(steps))
        return fit(
            self.model,
            self.backbone,  # type: ignore[arg-type]
            self.optimiser,
            lambda: [next(numbers)],  # type: ignore[list-item]
            steps,
            dropout_seed=0,
            loss=loss or mean_square,
            each_step=each_step,
        )


def ours(
    name: str, options: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> list[dict[str, State]]:
    """Return every client's adapters after the last round."""
    if name in ("fedprox", "ditto"):
        monkeypatch.setattr(f"fedmosaic.algorithms.{name}.answer_loss", mean_square)
    content = {
        "clients": [{"name": f"c{i}", "model": "net", "tasks": ["t"]} for i in range(len(SAMPLES))],
        "adapter": {"r": RANK, "alpha": SCALE * RANK, "dropout": 0.0},
        "train": {"steps": STEPS, "lr": LR, "lr_shared": LR, "clip": 0.0},
        "algorithms": {name: options},
    }
    algorithm = make_algorithm(name, parse(Scenario, content, "test"), 0)
    torch.manual_seed(0)
    base = Net().requires_grad_(False)
    clients = [ToyClient(algorithm, base, i) for i in range(len(SAMPLES))]
    members = [
        Member(name=c.name, architecture="net", samples=n)
        for c, n in zip(clients, SAMPLES, strict=True)
    ]
    server = StubServer(members)
    for round, present in enumerate(PRESENT):
        server.round, updates = round, {}
        for i in present:
            client = clients[i]
            client.round = round
            algorithm.receive(client, algorithm.download(server, members[i]))
            if algorithm.replaces_weights:
                client.optimiser.restart()
            algorithm.train(client)
            found = algorithm.upload(client).tensors
            updates[client.name] = Message(sent_in_round(found, algorithm.alternates, round))
        algorithm.aggregate(server, updates)
    return [{a: read_state(c.model, a, gates=True) for a in algorithm.adapters} for c in clients]


def first_client(name: str, options: Mapping[str, Any]) -> tuple[nn.Module, ToyClient]:
    """Return the base model, and a client with the adapters on it as they are at the start."""
    torch.manual_seed(0)
    base = Net().requires_grad_(False)
    content = {
        "clients": [{"name": "c0", "model": "net", "tasks": ["t"]}],
        "adapter": {"r": RANK, "alpha": SCALE * RANK, "dropout": 0.0},
        "algorithms": {name: options},
    }
    algorithm = make_algorithm(name, parse(Scenario, content, "test"), 0)
    return base, ToyClient(algorithm, base, 0)


def start(
    name: str, options: Mapping[str, Any] | None = None
) -> tuple[list[Tensor], dict[str, State]]:
    """Return base weights and adapters at the start, in float64."""
    base, client = first_client(name, options or {})
    adapters = {
        a: {k: v.double() for k, v in read_state(client.model, a, gates=True).items()}
        for a in client.algorithm.adapters
    }
    return [layer.attn["q_proj"].weight.double() for layer in base.layers], adapters
