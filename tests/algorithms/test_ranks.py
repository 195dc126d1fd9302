"""Check the algebra of aggregating LoRA of different ranks: where ΔW is the exact mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from ranked_factory import (
    SCALE,
    SHAPES,
    adapter,
    best,
    close,
    deltas,
    federation,
    mean,
    updates_of,
)
from torch import Tensor, nn

from fedmosaic.algorithms.common.ranks import factors, first_rows, padded_mean, resize
from fedmosaic.errors import ConfigError

RANKS = [2, 4, 3]


# --- tools ----------------------------------------------------------------------------------------
def test_a_smaller_rank_starts_with_the_first_rows_of_a_larger_one() -> None:
    assert torch.equal(first_rows(3, 20, 0, "m", "k"), first_rows(7, 20, 0, "m", "k")[:3])
    assert not torch.equal(first_rows(3, 20, 0, "m", "k"), first_rows(3, 20, 0, "m", "other"))
    assert first_rows(500, 20, 0).abs().max() <= 20**-0.5


def test_resizing_cuts_and_fills_with_zeros() -> None:
    tensors = adapter(4, 0)
    larger, smaller = resize(tensors, 6), resize(tensors, 2)
    assert torch.equal(larger["layer.0.q_proj.A"][4:], torch.zeros(2, 5)) and larger[
        "layer.0.q_proj.B"
    ].shape == (7, 6)
    assert torch.equal(smaller["layer.0.q_proj.B"], tensors["layer.0.q_proj.B"][:, :2])
    assert all(torch.equal(resize(larger, 4)[key], value) for key, value in tensors.items())


@pytest.mark.parametrize(("inner", "rank"), [(3, 3), (9, 3), (2, 4), (9, 5), (3, 8)])
def test_factors_are_the_truncated_svd_of_the_product(inner: int, rank: int) -> None:
    draw = torch.Generator().manual_seed(1)
    a = torch.randn(inner, 5, generator=draw, dtype=torch.float64)
    b = torch.randn(7, inner, generator=draw, dtype=torch.float64)
    left, right = factors(a, b, rank)
    assert left.shape == (rank, 5) and right.shape == (7, rank)
    torch.testing.assert_close(right @ left, best(b @ a, min(rank, 5)))
    rows = min(rank, 5)  # rows without a singular value are there to be trained
    torch.testing.assert_close(left[:rows] @ left[:rows].T, torch.eye(rows, dtype=torch.float64))


# --- who gives the mean ---------------------------------------------------------------------------
def test_flexlora_gives_the_mean_at_full_rank_and_its_best_approximation_below() -> None:
    ranks = [2, 7, 3]
    algorithm, server = federation("flexlora", ranks)
    updates = updates_of(algorithm, ranks)
    algorithm.aggregate(server, updates)
    expected = mean([deltas(update.tensors) for update in updates.values()])
    for member, rank in zip(server.members, ranks, strict=True):
        sent = algorithm.download(server, member).tensors
        for module, delta in deltas(sent).items():
            assert sent[f"{module}.A"].shape == (rank, SHAPES[module][1])
            assert close(delta, best(expected[module], rank)), (module, rank)
            assert close(delta, expected[module]) == (rank >= min(SHAPES[module]))


def test_flora_adds_the_mean_of_every_round() -> None:
    algorithm, server = federation("flora", RANKS)
    total = {module: torch.zeros(shape, dtype=torch.float64) for module, shape in SHAPES.items()}
    for round in range(3):
        updates = updates_of(algorithm, RANKS, seed=round)
        algorithm.aggregate(server, updates)
        for module, delta in mean([deltas(update.tensors) for update in updates.values()]).items():
            total[module] += delta
        sent = algorithm.download(server, server.members[0]).tensors
        assert all(close(delta, total[module]) for module, delta in deltas(sent, scale=1.0).items())
        assert all(
            value.shape[0] <= min(SHAPES[key[:-2]])
            for key, value in sent.items()
            if key.endswith("A")
        )
    assert server.report["lost"]["m"] == pytest.approx(0.0, abs=1e-12)


def test_flora_is_the_plain_stack_while_it_fits() -> None:
    algorithm, server = federation("flora", [1, 2])
    updates = updates_of(algorithm, [1, 2])
    algorithm.aggregate(server, updates)
    sent = algorithm.download(server, server.members[1]).tensors
    one, two = (update.tensors for update in updates.values())
    for module in SHAPES:
        stacked = torch.cat([one[f"{module}.A"] * 10 / 21, two[f"{module}.A"] * 11 / 21])
        torch.testing.assert_close(sent[f"{module}.A"], stacked)
        torch.testing.assert_close(
            sent[f"{module}.B"], SCALE * torch.cat([one[f"{module}.B"], two[f"{module}.B"]], 1)
        )


def test_flora_says_what_a_small_rank_loses() -> None:
    algorithm, server = federation("flora", RANKS, algorithms={"flora": {"rank": 2}})
    updates = updates_of(algorithm, RANKS)
    algorithm.aggregate(server, updates)
    expected = mean([deltas(update.tensors) for update in updates.values()])
    sent = deltas(algorithm.download(server, server.members[0]).tensors, scale=1.0)
    assert all(close(delta, best(expected[module], 2)) for module, delta in sent.items())
    whole = sum(delta.square().sum() for delta in expected.values())
    lost = sum((expected[module] - delta).square().sum() for module, delta in sent.items())
    assert server.report["lost"]["m"] == pytest.approx(float(lost / whole), rel=1e-5)


def test_ffa_lora_gives_the_mean_to_the_largest_rank() -> None:
    algorithm, server = federation("ffa-lora", RANKS)
    updates = updates_of(algorithm, RANKS)
    algorithm.aggregate(server, updates)
    start = {f"{m}.A": first_rows(4, d_in, 0, "m", f"{m}.A") for m, (_, d_in) in SHAPES.items()}
    each = [
        deltas({**resize(start, rank), **update.tensors})
        for rank, update in zip(RANKS, updates.values(), strict=True)
    ]
    sent = algorithm.download(server, server.members[1]).tensors
    assert set(sent) == {f"{module}.B" for module in SHAPES}
    assert all(
        close(delta, mean(each)[module]) for module, delta in deltas({**start, **sent}).items()
    )
    smaller = algorithm.download(server, server.members[0]).tensors
    assert all(torch.equal(value, sent[key][:, :2]) for key, value in smaller.items())


@pytest.mark.parametrize(
    ("name", "ranks"), [("fedavg", [4, 4, 4]), ("hetlora", RANKS), ("hetlora", [4, 4, 4])]
)
def test_averages_of_factors_are_not_the_average(name: str, ranks: list[int]) -> None:
    algorithm, server = federation(name, ranks)
    updates = updates_of(algorithm, ranks)
    algorithm.aggregate(server, updates)
    expected = mean([deltas(update.tensors) for update in updates.values()])
    sent = deltas(algorithm.download(server, server.members[1]).tensors)
    assert all(not close(delta, expected[module], 0.1) for module, delta in sent.items())


# --- each method's own rule -----------------------------------------------------------------------
def test_hetlora_weighs_by_norm_pads_and_cuts() -> None:
    algorithm, server = federation("hetlora", RANKS)
    updates = updates_of(algorithm, RANKS)
    algorithm.aggregate(server, updates)
    norms = [
        sum(d.square().sum() for d in deltas(u.tensors).values()).sqrt() for u in updates.values()
    ]
    sent = algorithm.download(server, server.members[1]).tensors
    for key, value in sent.items():
        expected = torch.zeros(value.shape, dtype=torch.float64)
        for norm, update in zip(norms, updates.values(), strict=True):
            part = update.tensors[key].double()
            expected[: part.shape[0], : part.shape[1]] += norm / sum(norms) * part
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)
    smaller = algorithm.download(server, server.members[0]).tensors
    assert all(torch.equal(value, resize(sent, 2)[key]) for key, value in smaller.items())


def test_hetlora_of_adapters_that_do_nothing_weighs_by_samples() -> None:
    algorithm, server = federation("hetlora", [2, 2])
    updates = updates_of(algorithm, [2, 2])
    for update in updates.values():
        for module in SHAPES:
            update.tensors[f"{module}.B"].zero_()
    algorithm.aggregate(server, updates)
    sent = algorithm.download(server, server.members[0]).tensors
    expected = padded_mean(
        [u.tensors for u in updates.values()], torch.tensor([10, 11]).double() / 21, 2
    )
    assert all(torch.equal(value, expected[key].float()) for key, value in sent.items())


def test_fedsa_lora_averages_each_row_of_a_over_those_who_have_it() -> None:
    algorithm, server = federation("fedsa-lora", RANKS)
    updates = updates_of(algorithm, RANKS)
    algorithm.aggregate(server, updates)
    sent = algorithm.download(server, server.members[1]).tensors
    assert set(sent) == {f"{module}.A" for module in SHAPES}
    for key, value in sent.items():
        a = [update.tensors[key].double() for update in updates.values()]
        torch.testing.assert_close(
            value[:2].double(), (10 * a[0][:2] + 11 * a[1][:2] + 12 * a[2][:2]) / 33
        )
        torch.testing.assert_close(value[2].double(), (11 * a[1][2] + 12 * a[2][2]) / 23)
        assert torch.equal(value[3], updates["c1"].tensors[key][3])
    # rows whose owners are away stay as they are
    algorithm.aggregate(server, {"c0": updates["c0"]})
    later = algorithm.download(server, server.members[1]).tensors
    for key, value in later.items():
        assert torch.equal(value[:2], updates["c0"].tensors[key]) and torch.equal(
            value[2:], sent[key][2:]
        )


def test_rows_of_a_that_nobody_sent_are_those_of_the_start() -> None:
    algorithm, server = federation("fedsa-lora", [2, 4])
    algorithm.aggregate(server, {"c0": updates_of(algorithm, [2, 4])["c0"]})
    for key, value in algorithm.download(server, server.members[1]).tensors.items():
        assert torch.equal(value[2:], first_rows(*value.shape, 0, "m", key)[2:])


@pytest.mark.parametrize(
    "name", ["hetlora", "flexlora", "raflora", "flora", "fedsa-lora", "ffa-lora"]
)
def test_architectures_share_nothing(name: str) -> None:
    algorithm, server = federation(name, RANKS, ["m", "m", "alone"])
    updates = updates_of(algorithm, RANKS)
    algorithm.aggregate(server, updates)
    together = algorithm.download(server, server.members[2]).tensors
    algorithm, server = federation(name, RANKS, ["m", "m", "alone"])
    algorithm.aggregate(server, {"c2": updates["c2"]})
    apart = algorithm.download(server, server.members[2]).tensors
    assert together.keys() == apart.keys()
    assert all(torch.equal(value, apart[key]) for key, value in together.items())
    assert not algorithm.download(server, server.members[0]).tensors


def test_the_others_refuse_mixed_ranks_and_name_the_clients() -> None:
    for name in ("fedavg", "fedmosaic"):
        with pytest.raises(
            ConfigError,
            match=r"clients\.1\.r: 'c1' has rank 4 and 'c0' rank 2 on m, but .* hetlora",
        ):
            federation(name, RANKS)
        federation(name, [2, 2, 3], ["m", "m", "n"])


# --- side by side with PEFT -----------------------------------------------------------------------
class Two(nn.Module):
    """Hold two layers that are not square."""

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.down_proj = nn.Linear(5, 7), nn.Linear(11, 6)


def peft_combination(updates: dict[str, Any], kind: str, **options: Any) -> dict[str, Tensor]:
    """Return ΔW of PEFT's ``add_weighted_adapter``, with weights of 10 + i samples."""
    names = list(updates)
    model = None
    for name in names:
        rank = updates[name].tensors["layer.0.q_proj.A"].shape[0]
        config = LoraConfig(r=rank, lora_alpha=rank * SCALE, target_modules=["q_proj", "down_proj"])
        if model is None:
            model = get_peft_model(Two(), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
        for key, value in updates[name].tensors.items():
            layer = model.base_model.model.get_submodule(key.split(".")[2])
            getattr(layer, f"lora_{key[-1]}")[name].weight.data.copy_(value)
    samples = [10 + i for i in range(len(names))]
    weights = [count / sum(samples) for count in samples]
    model.base_model.add_weighted_adapter(names, weights, "mean", combination_type=kind, **options)
    return {
        m: model.base_model.model.get_submodule(m.split(".")[2]).get_delta_weight("mean")
        for m in SHAPES
    }


@pytest.mark.parametrize("rank", [2, 4, 5])
def test_flexlora_is_pefts_svd_combination(rank: int) -> None:
    ranks = [2, rank, 3]
    algorithm, server = federation("flexlora", ranks)
    updates = updates_of(algorithm, ranks)
    algorithm.aggregate(server, updates)
    ours = deltas(algorithm.download(server, server.members[1]).tensors)
    theirs = peft_combination(updates, "svd", svd_rank=rank)
    for module, delta in ours.items():
        torch.testing.assert_close(delta.float(), theirs[module].detach(), rtol=1e-4, atol=1e-5)


def test_flora_is_pefts_cat_combination() -> None:
    algorithm, server = federation("flora", RANKS)
    updates = updates_of(algorithm, RANKS)
    algorithm.aggregate(server, updates)
    ours = deltas(algorithm.download(server, server.members[0]).tensors, scale=1.0)
    theirs = peft_combination(updates, "cat")
    for module, delta in ours.items():
        torch.testing.assert_close(delta.float(), theirs[module].detach(), rtol=1e-4, atol=1e-5)
