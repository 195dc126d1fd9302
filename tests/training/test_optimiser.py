"""Test the optimiser: learning rates by role, and moments that never change weights."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from fedmosaic.config import TrainSettings
from fedmosaic.errors import CheckpointError
from fedmosaic.training.optimiser import Optimiser, ParameterGroup, learning_rate, schedule_factor

SETTINGS = TrainSettings(lr=0.1, lr_shared=0.2, clip=0.0)


def optimiser(settings: TrainSettings = SETTINGS) -> tuple[Optimiser, dict[str, nn.Parameter]]:
    torch.manual_seed(0)
    parameters = {
        name: nn.Parameter(torch.randn(3)) for name in ("layer.0.q.A", "block.0.q.P", "gate.0.q")
    }
    groups = [
        ParameterGroup(role, {name: p})
        for role, (name, p) in zip(("lora", "shared", "gate"), parameters.items(), strict=True)
    ]
    return Optimiser(groups, settings), parameters


def step(made: Optimiser, parameters: dict[str, nn.Parameter]) -> None:
    sum((p**2).sum() for p in parameters.values()).backward()  # type: ignore[union-attr]
    made.step(1.0)


def test_roles_have_their_learning_rates() -> None:
    assert learning_rate("lora", SETTINGS) == 0.1
    assert learning_rate("shared", SETTINGS) == 0.2
    assert learning_rate("gate", SETTINGS) == 0.1
    assert learning_rate("gate", SETTINGS.model_copy(update={"lr_gate": 0.5})) == 0.5
    made, parameters = optimiser()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    step(made, parameters)
    # Adam's first step is the learning rate, whatever the gradient
    moved = {name: (p - before[name]).abs().mean().item() for name, p in parameters.items()}
    assert moved["block.0.q.P"] == pytest.approx(0.2, rel=1e-3)
    assert moved["layer.0.q.A"] == moved["gate.0.q"] == pytest.approx(0.1, rel=1e-3)


def test_loading_moments_touches_no_weight() -> None:
    made, parameters = optimiser()
    step(made, parameters)
    state = made.state()
    for parameter in parameters.values():
        parameter.data.fill_(5.0)
    made.load(state)
    assert all(torch.equal(p, torch.full((3,), 5.0)) for p in parameters.values())
    assert {name: len(value) for name, value in state.items()} == {
        "exp_avg": 9,
        "exp_avg_sq": 9,
        "step": 3,
    }


def test_saving_and_loading_moments_changes_nothing() -> None:
    direct, a = optimiser()
    reloaded, b = optimiser()
    for _ in range(4):
        step(direct, a)
        step(reloaded, b)
        state = reloaded.state()
        reloaded.load({})
        reloaded.load(state)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_restarting_zeroes_all_but_personal_moments() -> None:
    one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    groups = [
        ParameterGroup("lora", {"one": one}),
        ParameterGroup("lora", {"two": two}, personal=True),
    ]
    made = Optimiser(groups, SETTINGS)
    step(made, {"one": one, "two": two})
    before = made.state()
    made.restart()
    after = made.state()
    assert after["step"].tolist() == [0, 1]
    assert not after["exp_avg"][:2].any() and torch.equal(
        after["exp_avg"][2:], before["exp_avg"][2:]
    )


def test_a_parameter_without_gradient_stays_and_its_zero_moments_are_a_fresh_start() -> None:
    def trained(reload: bool) -> torch.Tensor:
        one, two = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
        made = Optimiser([ParameterGroup("lora", {"one": one, "two": two})], SETTINGS)
        one.square().sum().backward()
        made.step(1.0)
        assert torch.equal(two.detach(), torch.ones(3))
        if reload:
            made.load(made.state())
        step(made, {"one": one, "two": two})
        return torch.cat([one.detach(), two.detach()])

    assert torch.equal(trained(True), trained(False))


def test_each_objective_is_clipped_by_itself() -> None:
    one, two = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(3))
    groups = [
        ParameterGroup("lora", {"one": one}),
        ParameterGroup("lora", {"two": two}, objective="other"),
    ]
    made = Optimiser(groups, TrainSettings(lr=0.1, lr_shared=0.1, clip=1.0))
    (0.1 * one.sum() + 1000 * two.sum()).backward()
    made.step(1.0)
    moment = made.state()["exp_avg"]
    assert torch.allclose(
        moment[:2], torch.full((2,), 0.01)
    )  # below the limit: untouched by the other's size
    assert float(moment[2:].norm()) == pytest.approx(0.1, rel=1e-3)


def test_a_parameter_without_gradient_keeps_its_place() -> None:
    made, parameters = optimiser()
    used = {name: p for name, p in parameters.items() if name != "block.0.q.P"}
    step(made, used)
    state = made.state()
    assert state["step"].tolist() == [1, 0, 1]
    parts = dict(zip(parameters, state["exp_avg"].split(3), strict=True))
    assert {name for name, part in parts.items() if part.any()} == set(used)


def test_taken_moments_are_copies() -> None:
    made, parameters = optimiser()
    step(made, parameters)
    state = made.state()
    before = {name: value.clone() for name, value in state.items()}
    step(made, parameters)
    made.load({})
    assert all(torch.equal(state[name], before[name]) for name in state)
    assert not any(value.any() for value in made.state().values())


def test_moments_of_another_adapter_are_refused() -> None:
    made, _ = optimiser()
    with pytest.raises(CheckpointError, match="'exp_avg' has another shape"):
        made.load({"exp_avg": torch.zeros(3)})


def test_the_cosine_falls_once_over_the_whole_run() -> None:
    settings = SETTINGS.model_copy(update={"schedule": "cosine"})
    factors = [schedule_factor(settings, step, 100) for step in range(0, 101, 10)]
    assert factors[0] == 1.0 and factors[-1] == pytest.approx(0.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors))
    assert schedule_factor(SETTINGS, 50, 100) == 1.0


def test_clipping_bounds_the_gradient() -> None:
    made, parameters = optimiser(TrainSettings(lr=0.1, lr_shared=0.1, clip=1e-3))
    loss = sum((1000 * p).sum() for p in parameters.values())
    loss.backward()  # type: ignore[union-attr]
    made.step(1.0)
    assert float(made.state()["exp_avg"].norm()) == pytest.approx(1e-4, rel=1e-2)


def test_a_second_moment_for_the_whole_tensor_keeps_the_proportions_of_the_gradient() -> None:
    settings = SETTINGS.model_copy(update={"moment_shared": "tensor"})
    made, parameters = optimiser(settings)
    plain, by_entry = optimiser(SETTINGS)
    shared = parameters["block.0.q.P"]
    start = shared.detach().clone().double()
    mean, square, expected = torch.zeros(3).double(), 0.0, start.clone()
    for count in range(1, 4):
        gradient = 2 * shared.detach().double()
        step(made, parameters)
        step(plain, by_entry)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * float(gradient.square().mean())
        size = (square / (1 - 0.999**count)) ** 0.5 + 1e-8
        expected = expected - 0.2 * mean / (1 - 0.9**count) / size
        torch.testing.assert_close(shared.detach().double(), expected, rtol=1e-5, atol=1e-6)
    for name in ("layer.0.q.A", "gate.0.q"):
        assert torch.equal(parameters[name], by_entry[name])
    assert not torch.allclose(shared, by_entry["block.0.q.P"])
    state = made.state()
    other, copies = optimiser(settings)
    other.load(state)
    with torch.no_grad():
        for name, parameter in copies.items():
            parameter.copy_(parameters[name])
    step(made, parameters)
    step(other, copies)
    assert all(torch.equal(parameters[name], copies[name]) for name in parameters)
