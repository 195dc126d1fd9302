"""Check Fed-SB: where its frozen matrices come from, what it trains, and when it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from staged_clients import stage
from stub_server import StubServer

from fedmosaic.adapters import load_shared, read_state, shared_state
from fedmosaic.algorithms import Message
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.common.first_step import leading_subspaces
from fedmosaic.errors import ConfigError, UpdateError
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.wire import pack, unpack
from fedmosaic.training.loss import answer_loss


def test_fed_sb_starts_with_the_best_approximation_of_the_first_step(tiny: Path) -> None:
    client = stage(tiny, "fed-sb", "train.lr=0.01", "algorithms.fed-sb.warmup=5")["a"]
    backbone, rank = client.backbone, 4
    linear = backbone.model.model.language_model.layers[1].mlp.down_proj
    gradient, public = torch.zeros_like(linear.weight), client.runtime.public()
    size = client.runtime.scenario.train.batch_size
    for first in range(0, len(public), size):
        examples = [backbone.encode(example) for example in public[first : first + size]]
        linear.weight.requires_grad_(True)
        loss = answer_loss(backbone.model, backbone, backbone.collate(examples))
        gradient += torch.autograd.grad(loss, linear.weight)[0]
        linear.weight.requires_grad_(False)
    u, sigma, vh = torch.linalg.svd(-0.01 / 5 * gradient.sign().double(), full_matrices=False)
    with client.turn():
        r = read_state(client.model, "local")["block.1.down_proj.P"].double()
        frozen = {key: value.double() for key, value in shared_state(client.model).items()}
    a, b = frozen["block.1.down_proj.A"], frozen["block.1.down_proj.B"]
    torch.testing.assert_close(2 * r, torch.diag(sigma[:rank]), rtol=1e-5, atol=1e-8)  # s = 2
    torch.testing.assert_close(a @ a.T, torch.eye(rank, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(b.T @ b, torch.eye(rank, dtype=torch.float64), atol=1e-5, rtol=0)
    best = u[:, :rank] * sigma[:rank] @ vh[:rank]
    torch.testing.assert_close(2 * b @ r @ a, best, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (3, 9)])
def test_leading_subspaces_are_those_of_the_svd(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(3)
    update = torch.randn(*shape, generator=draw)
    u, sigma, vh = torch.linalg.svd(update.double(), full_matrices=False)
    for rank in (2, 4):
        b, r, a = leading_subspaces(update, rank)
        assert (b.shape, r.shape, a.shape) == ((shape[0], rank), (rank, rank), (rank, shape[1]))
        count = min(rank, *shape)
        best = u[:, :count] * sigma[:count] @ vh[:count]
        torch.testing.assert_close(b @ r @ a, best)
        assert (a.gather(1, a.abs().argmax(1, keepdim=True))[:count] > 0).all()
        assert not a[count:].any() and not b[:, count:].any()
    flat = torch.outer(update[:, 0], update[0])
    b, r, a = leading_subspaces(flat, 3)
    torch.testing.assert_close(b @ r @ a, flat.double(), rtol=1e-5, atol=1e-6)
    assert not a[1:].any() and torch.isfinite(b).all()


def test_fed_sb_averages_exactly_and_trains_only_r(tiny: Path) -> None:
    clients = stage(tiny, "fed-sb")
    algorithm, samples = clients["a"].runtime.algorithm, {"a": 10, "d": 30}
    with clients["a"].turn():
        frozen = shared_state(clients["a"].model)
    updates = {
        name: unpack(clients[name].work(Instructions(0), pack(Message())).update)
        for name in samples
    }
    with clients["d"].turn():
        held, own = shared_state(clients["d"].model), read_state(clients["d"].model, "local")
    assert all(torch.equal(value, held[key]) for key, value in frozen.items())
    server = StubServer([Member(name=n, architecture="m", samples=k) for n, k in samples.items()])
    algorithm.aggregate(server, updates)
    sent = algorithm.download(server, server.members[0]).tensors
    assert sent.keys() == own.keys() and all(value.shape == (4, 4) for value in sent.values())
    for key, mean in sent.items():
        a, b = (frozen[f"{key[:-1]}{name}"].double() for name in "AB")
        each = [update.tensors[key].double() for update in updates.values()]
        assert not torch.equal(*each)
        exact = 0.25 * (b @ each[0] @ a) + 0.75 * (b @ each[1] @ a)
        torch.testing.assert_close(b @ mean.double() @ a, exact, rtol=1e-5, atol=1e-8)


def test_fed_sb_refuses_an_update_with_other_frozen_matrices(tiny: Path) -> None:
    clients = stage(tiny, "fed-sb")
    algorithm = clients["a"].runtime.algorithm
    members = [Member(name=name, architecture="m") for name in ("a", "d", "other")]
    server = StubServer(members)
    with clients["a"].turn() as context:
        update = algorithm.upload(context)
        held = shared_state(clients["a"].model)
        # The same subspaces, with two directions exchanged.
        swapped = {
            key: value[[1, 0, 2, 3]] if key.endswith("A") else value[:, [1, 0, 2, 3]]
            for key, value in held.items()
        }
        load_shared(clients["a"].model, swapped)
        other = algorithm.upload(context)
        load_shared(clients["a"].model, held)
    assert algorithm.take(server, members[0], update) is update
    assert algorithm.take(server, members[1], update) is update
    with pytest.raises(UpdateError, match="B and A are not those of the first client with m"):
        algorithm.take(server, members[2], other)


def test_fed_sb_says_that_it_needs_public_examples_or_a_random_start(tiny: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.public: .*start=random"):
        stage(tiny, "fed-sb", "data.public=none")
    client = stage(tiny, "fed-sb", "data.public=none", "algorithms.fed-sb.start=random")["a"]
    with client.turn():
        assert not any(value.any() for value in read_state(client.model, "local").values())
        frozen = shared_state(client.model)
    a = frozen["block.0.q_proj.A"]
    torch.testing.assert_close(a @ a.T, torch.eye(4), atol=1e-5, rtol=0)
