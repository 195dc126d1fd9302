"""Test the counter of operations: exact, complete for our adapters, without side effects."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from fedmosaic.adapters.functional import CoLoraPass, LoraPass
from fedmosaic.config import RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.rehearsal import rehearse
from fedmosaic.federation.runtime import Runtime
from fedmosaic.training.flops import FlopCounter, RepeatedWork

N, D, H, R = 6, 10, 14, 3


def test_a_linear_layer_costs_what_one_counts_by_hand() -> None:
    layer, x = nn.Linear(D, H), torch.randn(N, D, requires_grad=True)
    with FlopCounter() as counted:
        layer(x).sum().backward()
    assert counted.total == 3 * 2 * N * D * H  # forward, for x, for the weight
    layer.requires_grad_(False)
    with FlopCounter() as counted:
        layer(x).sum().backward()
    assert counted.total == 2 * 2 * N * D * H


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_what_torch_leaves_whole_is_split(mode: type[torch.no_grad]) -> None:
    layer, x = nn.Linear(D, H), torch.randn(N, D)
    with mode(), FlopCounter() as counted:
        layer(x)
        torch.einsum("nd,hd->nh", x, layer.weight)
    assert counted.total == 2 * 2 * N * D * H


def test_it_agrees_with_torch_on_what_torch_counts() -> None:
    model = nn.Sequential(nn.Conv1d(4, 8, 3), nn.Flatten(), nn.Linear(8 * 8, 5))
    x = torch.randn(2, 4, 10)

    def step() -> None:
        model(x).square().sum().backward()

    with FlopCounter() as ours:
        step()
    with FlopCounterMode(display=False) as theirs:
        step()
    assert ours.total == theirs.get_total_flops() > 0


def test_both_passes_of_the_gated_adapters_count_forward_and_backward() -> None:
    x = torch.randn(N, D, requires_grad=True)
    weight, a, b = torch.randn(H, D), torch.randn(R, D), torch.randn(H, R)
    p, q, beta = (
        torch.zeros(R, R, requires_grad=True),
        torch.zeros(R, requires_grad=True),
        torch.zeros(()),
    )
    with FlopCounter() as counted:
        CoLoraPass.apply(
            x, weight, None, a, b, p, q, p.detach(), q.detach(), beta, 2.0
        ).sum().backward()
    base, shared, square = 2 * N * D * H, 2 * N * R * (D + H), 2 * N * R * R
    # Forward W x, A x, P z, B u; backward W, A, B again for x, P for x and for P's own gradient;
    # two inner products for the gate.
    assert counted.total == 2 * base + 2 * shared + 3 * square + 2 * (R * R + R)

    local = [torch.randn(R, D, requires_grad=True), torch.randn(H, R, requires_grad=True)]
    received = [torch.randn(R, D), torch.randn(H, R)]
    with FlopCounter() as counted:
        LoraPass.apply(x, weight, None, *local, *received, beta, 2.0, 2.0).sum().backward()
    # Both adapters forward and for x; only the local one has gradients of its own.
    assert counted.total == 2 * base + 2 * (2 * shared) + shared


def test_attention_on_a_cpu_counts() -> None:
    heads, tokens, width = 2, 5, 8
    q, k, v = (torch.randn(1, heads, tokens, width, requires_grad=True) for _ in range(3))
    product = 2 * heads * tokens * tokens * width
    with FlopCounter() as counted:
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert counted.total == 2 * product
    with FlopCounter() as counted:
        out.sum().backward()
    assert counted.total == 5 * product  # scores again, then the gradients of scores, v, q and k


def test_parts_pauses_and_free_modules() -> None:
    tower, head, x = nn.Linear(D, D), nn.Linear(D, H), torch.randn(N, D)
    with FlopCounter(free=[tower]) as counted:
        with counted.part("head"):
            head(tower(x))
        with counted.paused():
            head(x)
        with torch.inference_mode():
            head(x)
            head(tower(x))
    cost = 2 * N * D * H
    assert counted.parts == {"head": cost} and counted.total == 3 * cost
    tower(x)
    assert counted.total == 3 * cost and not tower._forward_hooks and not tower._forward_pre_hooks


def test_counting_changes_no_bit() -> None:
    def trained(count: bool) -> list[torch.Tensor]:
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, activation=functional.silu, batch_first=True)
        optimiser = torch.optim.AdamW(layer.parameters(), fused=True)
        for _ in range(3):
            x = torch.randn(4, 7, 16)
            counter = FlopCounter()
            if count:
                with counter:
                    layer(x).square().mean().backward()
                assert counter.total > 0
            else:
                layer(x).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
        return list(layer.parameters())

    assert all(torch.equal(a, b) for a, b in zip(trained(True), trained(False), strict=True))


def test_repeated_work_counts_each_time_and_is_looked_at_only_the_first_time() -> None:
    layer, repeated = nn.Linear(D, H), RepeatedWork()
    with repeated.of(N):  # no counter is entered
        layer(torch.randn(N, D))
    with FlopCounter() as counted:
        for rows in (N, N, 2 * N, N):
            with repeated.of(rows), counted.part("steps"):
                layer(torch.randn(rows, D))
        cost = 2 * N * D * H
        assert counted.total == 5 * cost
        with repeated.of(N):  # other work under the same key shows that nothing is looked at
            layer(torch.randn(7 * N, D))
        assert counted.total == 6 * cost
        with repeated.of(None):
            layer(torch.randn(7 * N, D))
        layer(torch.randn(N, D))  # the counter works on
    assert counted.total == 14 * cost


def test_an_own_loss_is_counted_at_every_step() -> None:
    """FedDistill's loss multiplies as many rows as a batch has different labels."""
    runtime = Runtime(RunSettings(name="x", scenario=load_scenario("miniature/quickstart", [])))
    costs = []
    for of in (RepeatedWork.of, lambda self, shapes: nullcontext()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(RepeatedWork, "of", of)
            costs.append([rehearse(runtime, name, 2).flops for name in ("feddistill", "fedavg")])
    assert costs[0] == costs[1]
