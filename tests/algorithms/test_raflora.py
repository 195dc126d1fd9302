"""Check raFLoRA's aggregate against a loop over directions, and the collapse that it prevents."""

from __future__ import annotations

from typing import Any

import torch
from ranked_factory import SCALE, SHAPES, best, close, deltas, federation, mean, updates_of
from torch import Tensor

from fedmosaic.algorithms import Message


def directions_weighed(updates: dict[str, Any], samples: list[int]) -> dict[str, Tensor]:
    """Return Σ_k Σ_i n_i / (Σ_{j: r_j > k} n_j) s·B_i[:, k] A_i[k], written out."""
    total = {module: torch.zeros(shape, dtype=torch.float64) for module, shape in SHAPES.items()}
    for module in SHAPES:
        rank = {name: len(update.tensors[f"{module}.A"]) for name, update in updates.items()}
        for k in range(max(rank.values())):
            having = [i for i, name in enumerate(updates) if rank[name] > k]
            for i in having:
                tensors = list(updates.values())[i].tensors
                a, b = tensors[f"{module}.A"][k].double(), tensors[f"{module}.B"][:, k].double()
                share = samples[i] / sum(samples[j] for j in having)
                total[module] += share * SCALE * torch.outer(b, a)
    return total


def test_raflora_averages_each_direction_over_those_who_have_it() -> None:
    ranks = [2, 7, 3, 3]
    algorithm, server = federation("raflora", ranks)
    updates = updates_of(algorithm, ranks)
    algorithm.aggregate(server, updates)
    expected = directions_weighed(updates, [10, 11, 12, 13])
    plain = mean([deltas(update.tensors) for update in updates.values()])
    for member, rank in zip(server.members, ranks, strict=True):
        for module, delta in deltas(algorithm.download(server, member).tensors).items():
            assert close(delta, best(expected[module], rank)), (module, rank)
            assert not close(delta, best(plain[module], rank), 0.05)
    # A part of the rank that nobody has in a round adds nothing, and the weights are of those here.
    algorithm.aggregate(server, {"c0": updates["c0"], "c3": updates["c3"]})
    expected = directions_weighed({"c0": updates["c0"], "c3": updates["c3"]}, [10, 13])
    for module, delta in deltas(algorithm.download(server, server.members[1]).tensors).items():
        assert close(delta, expected[module])


def test_raflora_is_flexlora_where_all_have_one_rank() -> None:
    sent = []
    for name in ("raflora", "flexlora"):
        algorithm, server = federation(name, [3, 3, 3])
        algorithm.aggregate(server, updates_of(algorithm, [3, 3, 3]))
        sent.append(deltas(algorithm.download(server, server.members[0]).tensors))
    assert all(close(delta, sent[1][module]) for module, delta in sent[0].items())


def test_raflora_prevents_the_collapse_of_ranks() -> None:
    """Check the setting of the paper's theorem: one singular basis, and clients that keep it."""
    ranks, rounds = [1, 2, 4], 3
    coverage = torch.tensor([33, 23, 12, 12]) / 33  # by samples; 10, 11 and 12
    for name, shrink in (("raflora", torch.ones(4)), ("flexlora", coverage)):
        algorithm, server = federation(name, ranks)
        whole = {
            m: torch.linalg.svd(d)
            for m, d in deltas(updates_of(algorithm, [4])["c0"].tensors).items()
        }
        updates = {}
        for index, rank in enumerate(ranks):
            tensors = {}
            for module, (u, sigma, vh) in whole.items():
                tensors[f"{module}.A"] = vh[:rank].float()
                tensors[f"{module}.B"] = (u[:, :rank] * sigma[:rank] / SCALE).float()
            updates[f"c{index}"] = Message(tensors)
        for _ in range(rounds):
            algorithm.aggregate(server, updates)
            updates = {m.name: algorithm.download(server, m) for m in server.members}
        for module, delta in deltas(updates["c2"].tensors).items():
            expected = whole[module][1][:4] * shrink.double() ** rounds
            found = torch.linalg.svdvals(delta)[:4]
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5, msg=name)
