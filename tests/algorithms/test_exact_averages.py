"""Check algorithms whose average of adapters is the exact average of what the adapters do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from ranked_factory import SHAPES, adapter, deltas, federation, mean, updates_of
from staged_clients import stage
from torch import Tensor

from fedmosaic.adapters import adapter_parameters, read_state
from fedmosaic.algorithms import Message
from fedmosaic.algorithms.message import sent_in_round
from fedmosaic.errors import UpdateError
from fedmosaic.federation.instructions import Instructions
from fedmosaic.federation.wire import check, pack, schema_of, unpack

RANKS = [3, 3, 3]
Deltas = dict[str, Tensor]


def close(left: Deltas, right: Deltas, tolerance: float = 1e-6) -> bool:
    return all(
        (left[module] - value).norm() <= tolerance * value.norm() for module, value in right.items()
    )


# --- FedEx-LoRA -----------------------------------------------------------------------------------
def received(algorithm: Any, server: Any, index: int = 0) -> tuple[Deltas, Deltas]:
    """Return what a client gets: s·B A of the averages, and the residual in W."""
    sent = algorithm.download(server, server.members[index])
    residual = sent.select("residual.")
    named = {key.removeprefix("residual."): value for key, value in residual.items()}
    averages = {key: value for key, value in sent.tensors.items() if key not in residual}
    return deltas(averages), deltas(named, scale=1.0)


def test_residual_and_averages_are_the_mean_in_every_round() -> None:
    algorithm, server = federation("fedex-lora", RANKS)
    held = {module: torch.zeros(shape, dtype=torch.float64) for module, shape in SHAPES.items()}
    for number, present in enumerate((("c0", "c1", "c2"), ("c2", "c0"), ("c0", "c1", "c2"))):
        everything = updates_of(algorithm, RANKS, seed=number)
        updates = {name: everything[name] for name in present}
        algorithm.aggregate(server, updates)
        samples = {name: 10 + int(name[1:]) for name in present}
        exact = {
            module: sum(
                samples[name] / sum(samples.values()) * deltas(dict(updates[name].tensors))[module]
                for name in present
            )
            for module in SHAPES
        }
        averages, residual = received(algorithm, server)
        wanted = {module: held[module] + delta for module, delta in exact.items()}
        assert close({m: residual[m] + averages[m] for m in SHAPES}, wanted)
        assert not close(averages, exact, 0.1)
        held = residual
    assert server.report["lost"] == {"m": pytest.approx(0.0, abs=1e-12)}
    assert 0.1 < server.report["deviation"]["m"] < 10


def test_the_residual_travels_at_its_rank_and_counts() -> None:
    """Of three clients it has rank 2 r a round, until the weight is no wider."""
    algorithm, server = federation("fedex-lora", [1, 1, 1])
    for rank in (2, 4, 5):
        algorithm.aggregate(server, updates_of(algorithm, [1, 1, 1], seed=rank))
        sent = algorithm.download(server, server.members[1]).tensors
        assert sent["residual.layer.0.q_proj.A"].shape == (rank, 5)
        assert sent["residual.layer.1.down_proj.B"].shape == (6, min(rank, 6) if rank < 5 else 6)
        assert sent["layer.0.q_proj.A"].shape == (1, 5)


def test_a_single_client_has_no_residual() -> None:
    algorithm, server = federation("fedex-lora", [2, 2], ["m", "other"])
    algorithm.aggregate(server, updates_of(algorithm, [2, 2]))
    sent = algorithm.download(server, server.members[0]).tensors
    assert set(sent) == set(adapter(2, 0))
    assert server.report == {"lost": {}, "deviation": {}}


def test_a_small_rank_keeps_the_best_part_of_the_residual() -> None:
    exact, server = federation("fedex-lora", RANKS)
    updates = updates_of(exact, RANKS)
    exact.aggregate(server, updates)
    _, whole = received(exact, server)
    small, other = federation("fedex-lora", RANKS, algorithms={"fedex-lora": {"rank": 2}})
    small.aggregate(other, updates)
    _, part = received(small, other)
    lost = 0.0
    for module, value in whole.items():
        u, sigma, vh = torch.linalg.svd(value)
        best = u[:, :2] * sigma[:2] @ vh[:2]
        assert (part[module] - best).norm() < 1e-5 * best.norm()
        lost += float(sigma[2:].square().sum())
    total = sum(float(value.square().sum()) for value in whole.values())
    assert other.report["lost"]["m"] == pytest.approx(lost / total, rel=1e-5)


def test_the_residual_acts_in_the_model_and_does_not_train(tiny: Path) -> None:
    client = stage(tiny, "fedex-lora", "rounds=2", "adapter.dropout=0")["a"]
    algorithm, noise = client.runtime.algorithm, torch.Generator().manual_seed(5)
    inputs = client.backbone.collate(
        [client.backbone.encode(example) for example in client.stream.tasks[0].test[:2]]
    ).inputs
    with client.turn(), torch.no_grad():
        own = read_state(client.model, "local")
        sent = {
            key: torch.randn(value.shape, generator=noise) / 20 for key, value in own.items()
        }  # the residual has the shapes of an adapter: rank r
        message = {**own, **{f"residual.{key}": value for key, value in sent.items()}}
        algorithm.receive(client.context, Message(message))
        merged = client.backbone.fork()
        for key, a in sent.items():
            if key.endswith(".A"):
                _, layer, module = key.removesuffix(".A").split(".")
                block = merged.model.language_model.layers[int(layer)]
                home = block.mlp if hasattr(block.mlp, module) else block.self_attn
                linear = getattr(home, module)
                changed = linear.weight + sent[key[:-1] + "B"] @ a
                linear.weight = torch.nn.Parameter(changed, requires_grad=False)
        with algorithm.view(client.context, "mixed") as model:
            # B of the trained adapter is still zero.
            torch.testing.assert_close(
                model(**inputs).logits, merged(**inputs).logits, rtol=1e-4, atol=1e-4
            )
    with client.turn():
        client.stream.begin_round(1)
        algorithm.train(client.context)
        held = read_state(client.model, "residual")
        rank = sent["layer.0.q_proj.A"].shape[0]
        assert torch.equal(held["layer.0.q_proj.A"][:rank], sent["layer.0.q_proj.A"])
        assert not any(
            p.requires_grad for p in adapter_parameters(client.model, "residual").values()
        )
        assert set(algorithm.upload(client.context).tensors) == set(own)


def test_a_residual_that_does_not_fit_is_refused(tiny: Path) -> None:
    client = stage(tiny, "fedex-lora", "algorithms.fedex-lora.rank=1")["a"]
    with client.turn():
        own = read_state(client.model, "local")
        sent = {f"residual.{key}": value for key, value in own.items()}
        with pytest.raises(UpdateError, match="sum has rank 4 and the adapter 'residual' 1"):
            client.runtime.algorithm.receive(client.context, Message({**own, **sent}))


# --- RoLoRA ---------------------------------------------------------------------------------------
def test_rolora_moves_and_sends_one_matrix_a_round(tiny: Path) -> None:
    client = stage(tiny, "rolora", "rounds=2", "adapter.dropout=0")["a"]
    algorithm = client.runtime.algorithm
    for number, trained, frozen in ((0, "B", "A"), (1, "A", "B")):
        with client.turn():
            before = read_state(client.model, "local")
        result = client.work(Instructions(number), pack(Message()))
        with client.turn():
            after = read_state(client.model, "local")
        moved = {key[-1] for key, value in before.items() if not torch.equal(value, after[key])}
        assert moved == {trained}
        assert all(torch.equal(before[key], after[key]) for key in before if key[-1] == frozen)
        sent = unpack(result.update).tensors
        assert sent.keys() == {key for key in before if key[-1] == trained}
        assert all(torch.equal(value, after[key]) for key, value in sent.items())
        assert all(p.requires_grad for p in adapter_parameters(client.model, "local").values())
    assert algorithm.upload(client.context).tensors.keys() == before.keys()


def test_rolora_averages_exactly_what_clients_with_one_frozen_matrix_do() -> None:
    algorithm, server = federation("rolora", RANKS)
    common = adapter(3, 99)
    for server.round, trained in ((0, "B"), (1, "A"), (2, "B")):
        everything = updates_of(algorithm, RANKS, seed=server.round)
        updates = {
            name: Message({key: v for key, v in update.tensors.items() if key[-1] == trained})
            for name, update in everything.items()
        }
        algorithm.aggregate(server, updates)
        exact = mean([deltas({**common, **update.tensors}) for update in updates.values()])
        sent = algorithm.download(server, server.members[0]).tensors
        common |= sent
        assert close(deltas(common), exact)
    assert {key[-1] for key in sent} == {"A", "B"}


def test_the_wrong_matrix_of_a_round_is_refused(tiny: Path, tmp_path: Path) -> None:
    """A late update of the round before has the other matrix."""
    client = stage(tiny, "rolora")["a"]
    with client.turn() as context:
        schema = schema_of(client.algorithm.upload(context))
    first = unpack(client.work(Instructions(0), pack(Message())).update)
    check(first, sent_in_round(schema, client.algorithm.alternates, 0))
    with pytest.raises(UpdateError, match=r"lacks 'layer\.0\.\w+\.A'"):
        check(first, sent_in_round(schema, client.algorithm.alternates, 1))
