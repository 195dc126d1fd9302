"""Test that several clients' optimisers step at once as each would by itself."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from fedmosaic.config import TrainSettings
from fedmosaic.training.joint_optimiser import PART, JointOptimiser, row_norms
from fedmosaic.training.optimiser import Optimiser, ParameterGroup

SHAPES = {"A": (2, 3), "B": (4, 2), "P": (2, 2)}
CLIENTS = 3


def joint(settings: TrainSettings) -> JointOptimiser:
    """Return optimisers of three clients, of which the second has made two steps already."""
    draw = torch.Generator().manual_seed(0)
    sizes = [math.prod(shape) for shape in SHAPES.values()]
    weights = torch.randn(CLIENTS, sum(sizes), generator=draw)
    stacked = [
        nn.Parameter(part.unflatten(1, shape))
        for part, shape in zip(weights.split(sizes, dim=1), SHAPES.values(), strict=True)
    ]
    optimisers = []
    for client in range(CLIENTS):
        own = [nn.Parameter(whole.data[client]) for whole in stacked]
        lora = ParameterGroup("lora", {"A": own[0], "B": own[1]})
        optimisers.append(Optimiser([lora, ParameterGroup("shared", {"P": own[2]})], settings))
    state = {name: torch.rand(value.shape) for name, value in optimisers[1].state().items()}
    optimisers[1].load({**state, "step": torch.full((3,), 2.0)})
    found = JointOptimiser(optimisers, stacked, weights)
    found.prepare()
    return found


def step(optimiser: JointOptimiser, number: int, *, without: int | None = None) -> None:
    draw = torch.Generator().manual_seed(number)
    for place, parameter in enumerate(optimiser.stacked):
        if place != without:
            parameter.grad = torch.randn(parameter.shape, generator=draw)
    optimiser.step(0.5 if number else 1.0)


def states(optimiser: JointOptimiser) -> list[Tensor]:
    moments = [value for own in optimiser.optimisers for value in own.state().values()]
    return [optimiser.weights, *moments]


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_one_vector_steps_as_each_optimiser(clip: float) -> None:
    settings = TrainSettings(lr=0.1, lr_shared=0.2, weight_decay=0.1, clip=clip)
    torch.manual_seed(0)
    flat = joint(settings)
    torch.manual_seed(0)
    single = joint(settings)
    assert flat._is_flat
    single._is_flat = False
    for number in range(3):
        step(flat, number)
        step(single, number)
    assert flat._is_flat
    for found, expected in zip(states(flat), states(single), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert [own.moments["step"].tolist() for own in flat.optimisers] == [[3] * 3, [5] * 3, [3] * 3]


@pytest.mark.parametrize("values", [1, PART, PART + 1, 2_500_000])
def test_long_gradients_are_clipped_as_precisely_as_short_ones(values: int) -> None:
    """One sum of squares over the last of these would be off by 5e-5, which Adam amplifies."""
    rows = torch.randn(2, values, generator=torch.Generator().manual_seed(0))
    expected = rows.double().norm(dim=1, keepdim=True)
    torch.testing.assert_close(row_norms(rows).double(), expected, rtol=5e-7, atol=0)


def test_a_parameter_without_a_gradient_stays() -> None:
    optimiser = joint(TrainSettings(lr=0.1, weight_decay=0.1))
    before = optimiser.stacked[1].detach().clone()
    step(optimiser, 0, without=1)
    assert torch.equal(optimiser.stacked[1], before)
    assert optimiser.optimisers[0].moments["step"].tolist() == [1, 0, 1]
    step(optimiser, 1)
    assert optimiser.optimisers[0].moments["step"].tolist() == [2, 1, 2]


def test_one_second_moment_a_tensor_is_kept_by_each_optimiser() -> None:
    assert not joint(TrainSettings(moment_shared="tensor"))._is_flat


def test_a_client_that_diverges_disturbs_no_other() -> None:
    broken, whole = joint(TrainSettings(lr=0.1)), joint(TrainSettings(lr=0.1))
    for optimiser in (broken, whole):
        for parameter in optimiser.stacked:
            parameter.grad = torch.ones_like(parameter)
    broken.stacked[0].grad[0] = float("nan")  # type: ignore[index]
    broken.step(1.0)
    whole.step(1.0)
    assert broken.weights[0].isnan().all()
    assert torch.equal(broken.weights[2], whole.weights[2])
