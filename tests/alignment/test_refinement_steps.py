"""Check effects, the closed form of a group, and the strength of sites, on known truth."""

from __future__ import annotations

import pytest
import torch
from traced import EQUAL, RANK, moments, random_pair, rotations, some_task, some_traces

from benchmarks.accuracy.injection import Injection
from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment.hooks import linear_at
from fedmosaic.alignment.refinement.effects import effects, learn
from fedmosaic.alignment.refinement.pseudo_tasks import (
    CONTRASTS,
    answerable_words,
    draw_pseudo_tasks,
)
from fedmosaic.alignment.refinement.strength import (
    STRENGTH,
    agreement,
    balance,
    condition,
    limit_condition,
    strengths,
)
from fedmosaic.alignment.refinement.traces import record_traces
from fedmosaic.alignment.refinement.transplant import transplant_accuracy
from fedmosaic.data import public_examples
from fedmosaic.models.backbone import Backbone


@pytest.mark.parametrize("name", ["llama-8x96", "qwen2-10x112"])
def test_effects_are_the_gradients_of_p(name: str) -> None:
    model = Backbone.load(f"miniature/{name}")
    public = list(public_examples("miniature/public", 40, 0))
    sites = sites_of([2, 5], ["o_proj", "down_proj"])
    (task,) = draw_pseudo_tasks(public, answerable_words(model, public, 0), 1, 3, 0)
    draw = torch.Generator().manual_seed(0)
    subspaces = {}
    for site in sites:
        linear = linear_at(model, site)
        subspaces[f"{site.key}.A"] = torch.randn(RANK, linear.in_features, generator=draw)
        subspaces[f"{site.key}.B"] = torch.randn(linear.out_features, RANK, generator=draw)
    found = effects(record_traces(model, sites, task, unit=1.0), subspaces)
    batch = model.collate([model.encode(example, answer=False) for example in task.examples])
    p = torch.zeros(len(sites), 3, RANK, RANK, requires_grad=True)
    with Injection(model, sites, subspaces)(p, torch.zeros(len(sites), 3, RANK)):
        output = model.model(
            **batch.inputs,
            logits_to_keep=1,
            use_cache=False,
        )
    first = torch.tensor(
        [[model.answer_ids(word)[0] for word in example.options] for example in task.examples]
    )
    for number, value in enumerate((output.logits[:, -1].gather(1, first) @ CONTRASTS.t()).sum(0)):
        (gradient,) = torch.autograd.grad(value, p, retain_graph=True)
        expected = gradient.transpose(0, 1).flatten(1)
        assert expected.abs().max() > 0
        torch.testing.assert_close(
            found[:, number], expected, rtol=2e-2, atol=2e-3 * float(expected.abs().max())
        )


def test_learning_is_ridge_regression_in_the_effects() -> None:
    draw = torch.Generator().manual_seed(2)
    phi, targets = (
        torch.randn(6, 2, 40, generator=draw).double(),
        torch.randn(6, 2, generator=draw).double(),
    )
    flat = phi.flatten(0, 1)
    kernel = (flat @ flat.t()).view(6, 2, 6, 2)
    p = learn(kernel, targets, 0.5) @ flat
    penalty = 0.5 * (flat @ flat.t()).diagonal().mean()
    gradient = flat.t() @ (flat @ p - targets.flatten()) + penalty * p
    assert gradient.abs().max() < 1e-9
    first_step = learn(kernel, targets, 1e9)
    torch.testing.assert_close(
        first_step / first_step.norm(), targets.flatten() / targets.norm(), atol=1e-6, rtol=0
    )


def test_known_rotations_are_undone() -> None:
    plain = [some_traces(seed) for seed in range(4)]
    rotated = [some_traces(seed, rotation=rotations()) for seed in range(4)]
    for one, two in (
        moments(plain, rotated).solve_group(RANK),
        (
            first := moments(plain).solve_group(RANK)[0],
            moments(rotated, plain).solve_joining(first),
        ),
    ):
        a, b = (balance(s, t, EQUAL) for s, t in ((one, plain), (two, rotated)))
        left, right = (effects(t[0], s).flatten(0, 1) for t, s in ((plain, a), (rotated, b)))
        cosine = (left * right).sum() / (left.norm() * right.norm())
        assert cosine > 0.95, float(cosine)
    unrelated = effects(rotated[0], balance(random_pair(1), rotated, EQUAL)).flatten(0, 1)
    assert (left * unrelated).sum().abs() / (left.norm() * unrelated.norm()) < 0.5


def test_balance_gives_every_model_the_same_strength_in_the_given_shares() -> None:
    traces = [some_traces(0)]
    pair = moments(traces).solve_group(RANK)[0]
    shares = {"block.0.o": 3.0, "block.1.o": 4.0}
    for exactly in (False, True):
        found = balance(pair, traces, shares, exactly=exactly)
        square = []
        for key in shares:
            z, u = (
                traces[0].last[key] @ found[f"{key}.A"].t(),
                traces[0].g[key][:, :, -1] @ found[f"{key}.B"],
            )
            assert float((z - z.mean(0)).square().mean().sqrt()) == pytest.approx(1, abs=1e-4)
            square.append(float(u.square().mean()))
        assert square[1] / square[0] == pytest.approx(16 / 9, rel=1e-3)
        # traces hold gradients in units of the strength
        assert sum(square) / 2 == pytest.approx(12.5 if exactly else 1, rel=1e-3)
        assert strengths(found, traces) == pytest.approx(
            {k: s**0.5 for k, s in zip(shares, square, strict=True)}
        )
    assert STRENGTH == 1e-2


def test_sites_are_weighted_by_the_agreement_of_the_models() -> None:
    plain, rotated = (
        [some_traces(seed, rotation=r) for seed in range(4)] for r in (None, rotations())
    )
    one, two = moments(plain, rotated).solve_group(RANK)
    unrelated = random_pair(1)
    mixed = {key: (two if key.startswith("block.0") else unrelated)[key] for key in two}
    found = agreement([one, mixed], [plain, rotated])
    assert found["block.0.o"] > 0.9 and found["block.1.o"] < 0.3
    assert agreement([one], [plain]) == {"block.0.o": 1, "block.1.o": 1}
    opposite = {key: -value if key.endswith("B") else value for key, value in one.items()}
    assert agreement([one, opposite], [plain, plain]) == pytest.approx(
        {"block.0.o": -1, "block.1.o": -1}
    )
    weak = balance(one, plain, {"block.0.o": 1, "block.1.o": -1})
    assert strengths(weak, plain)["block.1.o"] == pytest.approx(
        0.01 * strengths(weak, plain)["block.0.o"]
    )


def test_large_condition_numbers_are_limited() -> None:
    wild = {"A": torch.diag(torch.tensor([10.0, 5.0, 0.01])), "B": torch.eye(3)}
    found = limit_condition(wild)
    assert condition(wild) == pytest.approx(1000, rel=1e-3) and condition(found) == pytest.approx(
        9, rel=1e-3
    )
    assert torch.allclose(found["A"].diagonal()[:2], torch.tensor([10.0, 5.0])) and torch.allclose(
        found["B"], torch.eye(3)
    )


def test_transplant_accuracy_tells_aligned_pairs_from_random_ones() -> None:
    fitted, held = range(8), range(20, 30)
    one, two = ([some_traces(seed, rotation=r) for seed in fitted] for r in (None, rotations()))
    traces = [[some_traces(seed, rotation=r) for seed in held] for r in (None, rotations())]
    tasks = [some_task()] * len(held)
    random = [balance(random_pair(n), t, EQUAL) for n, t in enumerate((one, two))]
    solved = moments(one, two).solve_group(RANK)
    aligned = [balance(s, t, EQUAL) for s, t in zip(solved, (one, two), strict=True)]
    before, after = (transplant_accuracy(pairs, traces, tasks, 0) for pairs in (random, aligned))
    assert set(before) == {(0, 0), (0, 1), (1, 0), (1, 1)}
    # Chance is a third.
    assert before[0, 1] < 0.4 < 0.5 < before[0, 0] and before[1, 0] < 0.4
    assert after[0, 1] > 0.55 and after[1, 0] > 0.55
    assert transplant_accuracy(aligned, traces, tasks, 0) == after
    assert transplant_accuracy(aligned, traces, tasks, 1) != after


def test_one_site_is_enough_for_labels() -> None:
    traces = [some_traces(seed).at("block.0.o") for seed in range(2)]
    pair = {key: value for key, value in random_pair(0).items() if key.startswith("block.0")}
    assert 0 < transplant_accuracy([pair], [traces], [some_task()] * 2, 0)[0, 0] <= 1
