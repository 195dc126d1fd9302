"""Check FedDistill and FedMKT: the targets, that clients learn them, and that no weight travels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stub_server import StubServer
from torch import Tensor

import fedmosaic
from fedmosaic.adapters import read_state
from fedmosaic.algorithms import Message, make_algorithm
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.common.public_predictions import PublicExchange, as_tensors
from fedmosaic.algorithms.feddistill import FedDistill
from fedmosaic.algorithms.fedmkt import FedMKT
from fedmosaic.config import Scenario
from fedmosaic.config.load import parse
from fedmosaic.data import public_examples
from fedmosaic.errors import ConfigError
from fedmosaic.federation.wire import read_tensors
from fedmosaic.models.backbone import Backbone
from fedmosaic.training.distil import Predictions, distillation_loss, label_logits, predict

LLAMA, QWEN, LARGE = "miniature/llama-8x96", "miniature/qwen2-10x112", "miniature/llama-12x128"


@pytest.fixture(scope="module")
def world() -> Any:
    """Return three backbones and six public examples."""
    public = public_examples("miniature/public", 6)
    return SimpleNamespace(
        backbones={name: Backbone.load(name) for name in (LLAMA, QWEN, LARGE)}, public=public
    )


def federation(
    world: Any, algorithm: str, models: Sequence[str], **options: Any
) -> tuple[Any, Any]:
    clients = [{"name": f"c{i}", "model": model, "tasks": ["t"]} for i, model in enumerate(models)]
    content = {
        "clients": clients,
        "data": {"public": "miniature/public"},
        "algorithms": {algorithm: options},
    }
    members = [Member(name=f"c{i}", architecture=model) for i, model in enumerate(models)]
    server = StubServer(members, backbones=world.backbones, public=world.public)
    return make_algorithm(algorithm, parse(Scenario, content, "test"), 0), server


def update_of(world: Any, model: str, seed: int) -> Message:
    """Return an update of a client of that model: the bare model's predictions with noise."""
    backbone = world.backbones[model]
    noise = torch.Generator().manual_seed(seed)

    def predictor(batch: Any) -> tuple[Tensor, Tensor]:
        logits, labels = label_logits(backbone.model, backbone, batch)
        return logits + 3 * torch.randn(logits.shape, generator=noise), labels

    predictions, losses = predict(predictor, backbone, world.public, top_k=30)
    return Message({**as_tensors(predictions), "losses": losses})


def dense(message: Any, size: int) -> Tensor:
    tokens, p = message.tensors["tokens"].long(), message.tensors["probabilities"].double()
    return torch.zeros(len(tokens), size, dtype=torch.float64).scatter_add_(1, tokens, p)


def without_losses(message: Message) -> Message:
    return Message({name: value for name, value in message.tensors.items() if name != "losses"})


def test_feddistills_targets_are_the_mean_of_the_peers(world: Any) -> None:
    algorithm, server = federation(world, "feddistill", [LLAMA, LLAMA, LARGE, LLAMA], top_k=610)
    sent = {
        f"c{i}": without_losses(update_of(world, model, i))
        for i, model in enumerate([LLAMA, LLAMA, LARGE, LLAMA])
    }
    assert not algorithm.download(server, server.members[0]).tensors
    algorithm.aggregate(server, sent)
    for index, member in enumerate(server.members):
        others = [dense(message, 610) for name, message in sent.items() if name != f"c{index}"]
        targets = algorithm.download(server, member)
        assert torch.allclose(dense(targets, 610), torch.stack(others).mean(0), atol=1e-6)
        assert targets.tensors["tokens"].dtype == torch.int32
    assert server.report["mapped"] == {f"{LLAMA} -> {LARGE}": 1.0, f"{LARGE} -> {LLAMA}": 1.0}


def test_between_families_targets_are_in_the_clients_own_tokens(world: Any) -> None:
    algorithm, server = federation(world, "feddistill", [LLAMA, QWEN, QWEN], top_k=900)
    sent = {
        f"c{i}": without_losses(update_of(world, model, i))
        for i, model in enumerate([LLAMA, QWEN, QWEN])
    }
    algorithm.aggregate(server, sent)
    mapped = [
        algorithm.bridges.between(server, QWEN, LLAMA).map(
            Predictions(sent[name].tensors["probabilities"], sent[name].tensors["tokens"])
        ).predictions
        for name in ("c1", "c2")
    ]  # fmt: skip
    expected = torch.stack([dense(Message(vars(part)), 610) for part in mapped]).mean(0)
    assert torch.allclose(
        dense(algorithm.download(server, server.members[0]), 610), expected, atol=1e-6
    )
    pair = server.report["mapped"]
    assert set(pair) == {f"{LLAMA} -> {QWEN}", f"{QWEN} -> {LLAMA}"} and all(
        0.5 < share < 1.0 for share in pair.values()
    )


def test_an_absent_client_counts_with_its_last_predictions(world: Any) -> None:
    algorithm, server = federation(world, "feddistill", [LLAMA, LLAMA, LLAMA], top_k=610)
    sent = {f"c{i}": without_losses(update_of(world, LLAMA, i)) for i in range(4)}
    algorithm.aggregate(server, {"c0": sent["c0"]})
    assert not algorithm.download(
        server, server.members[0]
    ).tensors  # nobody else has sent predictions
    assert torch.equal(
        dense(algorithm.download(server, server.members[1]), 610), dense(sent["c0"], 610)
    )
    algorithm.aggregate(server, {"c1": sent["c1"], "c2": sent["c3"]})
    both = (dense(sent["c0"], 610) + dense(sent["c3"], 610)) / 2
    assert torch.allclose(
        dense(algorithm.download(server, server.members[1]), 610), both, atol=1e-6
    )


def test_fedmkts_targets_are_those_of_the_best_peer_of_each_example(world: Any) -> None:
    algorithm, server = federation(world, "fedmkt", [LLAMA, LARGE, LLAMA], top_k=610)
    sent = {f"c{i}": update_of(world, model, i) for i, model in enumerate([LLAMA, LARGE, LLAMA])}
    losses = torch.tensor([[1.0, 5, 1, 5, 1, 5], [2.0, 2, 2, 2, 2, 2], [0.5, 9, 9, 0.5, 0.5, 9]])
    for index in range(3):
        sent[f"c{index}"] = Message({**sent[f"c{index}"].tensors, "losses": losses[index]})
    algorithm.aggregate(server, sent)
    owner = algorithm.bridges.between(server, LLAMA, LLAMA).target.example
    # c0 chooses between c1 and c2, c1 between c0 and c2, be they better than itself or not.
    for member, best in ((0, [2, 1, 1, 2, 2, 1]), (1, [2, 0, 0, 2, 2, 0])):
        targets = algorithm.download(server, server.members[member])
        expected = torch.stack(
            [dense(sent[f"c{best[e]}"], 610)[row] for row, e in enumerate(owner.tolist())]
        )
        assert torch.allclose(dense(targets, 610), expected, atol=1e-6)
        assert torch.equal(
            targets.tensors["losses"], torch.stack([losses[who, e] for e, who in enumerate(best)])
        )


class RecordingClient:
    """Record the loss of the first public batch in place of training."""

    def __init__(self, world: Any, model: str, state: dict[str, Tensor]) -> None:
        self.backbone = world.backbones[model]
        self.model = self.backbone.model
        self.state = state
        self.public = lambda: world.public
        self.generator = lambda purpose: torch.Generator().manual_seed(1)
        self.losses: list[float] = []

    def fit(self, steps: int, *, loss: Any = None, examples: Any = None) -> Any:
        if examples is not None:
            drawn = examples()
            batch = self.backbone.collate([self.backbone.encode(example) for example in drawn])
            self.losses.append(float(loss(self.model, self.backbone, batch)))
        return SimpleNamespace(add_work=lambda other: None)


def test_fedmkt_learns_only_from_better_peers(world: Any) -> None:
    """Give labels weight 0, so that the loss is the distillation of the chosen examples."""
    algorithm, server = federation(world, "fedmkt", [LLAMA], label_weight=0.0)
    algorithm.scenario = algorithm.scenario.model_copy(
        update={"train": algorithm.scenario.train.model_copy(update={"batch_size": 6})}
    )
    targets = update_of(world, LLAMA, 5).tensors
    better = torch.tensor([True, False, True, True, False, False])
    own = torch.where(
        better, targets["losses"] + 0.1, targets["losses"]
    )  # equally good is not better
    client = RecordingClient(world, LLAMA, {"losses": own})
    algorithm.receive(client, Message(targets))
    algorithm.train(client)
    backbone = world.backbones[LLAMA]
    batch = backbone.collate([backbone.encode(example) for example in world.public])
    logits, _ = label_logits(backbone.model, backbone, batch)
    owner = algorithm.bridges.between(server, LLAMA, LLAMA).target.example
    chosen = better[owner]
    expected = distillation_loss(
        logits[chosen], Predictions(targets["probabilities"], targets["tokens"]).at(chosen)
    )
    assert client.losses == pytest.approx([float(expected)], rel=1e-4)
    assert set(client.state) == {"losses"}  # targets count for one round
    algorithm.train(client)
    assert len(client.losses) == 1


@pytest.mark.parametrize("algorithm", ["feddistill", "fedmkt", "takfl"])
def test_without_public_examples_it_says_so_at_once(
    tiny: Path, tmp_path: Path, algorithm: str
) -> None:
    with pytest.raises(ConfigError, match=rf"data\.public: {algorithm} .*none"):
        fedmosaic.run(
            tiny,
            algorithm=algorithm,
            overrides=["data.public=none"],
            out=tmp_path / "run",
            progress=False,
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [FedDistill, FedMKT])
def test_clients_come_nearer_to_their_targets_and_weights_never_travel(
    kind: type[PublicExchange], tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check a run that hardly learns anything but targets: clients come nearer to them."""
    nearer: dict[tuple[int, str], list[float]] = {}
    weights: dict[tuple[int, str], dict[str, Tensor]] = {}
    real = kind.train

    def train(self: Any, client: Any) -> Any:
        targets = {
            name: client.state[f"targets.{name}"]
            for name in ("probabilities", "tokens")
            if client.round
        }
        before = weights.get((client.round - 1, client.name))
        state = read_state(client.model, "local")
        assert before is None or all(torch.equal(state[name], before[name]) for name in state)
        if client.round:
            assert (
                client._client.adapted.optimiser.state()["step"][0] > 0
            )  # Adam goes on, for no weight was replaced

        def distance() -> float:
            public = client.backbone.collate(
                [client.backbone.encode(example) for example in client.public()]
            )
            with torch.no_grad():
                logits, _ = label_logits(client.model, client.backbone, public)
            return float(distillation_loss(logits, Predictions(**targets)))

        found = [distance()] if targets else []
        report = real(self, client)
        assert report.steps == (16 if targets and kind is FedMKT else 4)
        if targets:
            nearer[client.round, client.name] = [*found, distance()]
        weights[client.round, client.name] = read_state(client.model, "local")
        return report

    monkeypatch.setattr(kind, "train", train)
    run = fedmosaic.run(
        tiny,
        algorithm=kind.name,
        rounds=3,
        overrides=[
            "train.steps=4",
            "train.batch_size=8",
            "train.lr=3e-3",
            "adapter.dropout=0",
            "evaluation.every=0",
            "evaluation.last_items=1",
            "algorithms={feddistill: {weight: 10}, fedmkt: {label_weight: 0, public_steps: 12}}",
        ],
        out=tmp_path / "run",
        workers=1,
        progress=False,
        trackers=(),
    )
    assert len(nearer) == 8
    for key, (before, after) in nearer.items():
        assert after < before, (key, before, after)
    a, d = (weights[2, name] for name in ("a", "d"))  # of one architecture, and yet two models
    assert any(not torch.equal(a[name], d[name]) for name in a)
    server = read_tensors(run.folder / "checkpoints" / "round-0003" / "server.safetensors")[1]
    entries = json.loads(server["layout"])
    names = {name for entry in entries for name, _ in entry["layout"]}
    assert names == {"probabilities", "tokens"} | ({"losses"} if kind is FedMKT else set())
    client = read_tensors(run.folder / "checkpoints" / "round-0003" / "clients" / "a.safetensors")[
        0
    ]
    assert not any("targets" in key for key in client)
    assert run.summary["bytes"]["up"] < 150_000 and run.summary["refused"] == 0
