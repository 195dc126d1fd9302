"""Test the loss terms of algorithms against float64 formulas written out."""

from __future__ import annotations

import pytest
import torch

from fedmosaic.training.loss import kl_divergence, proximal_term


def logits(seed: int, size: float = 3.0) -> torch.Tensor:
    return size * torch.randn(5, 11, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_the_mean_kl_times_the_squared_temperature(temperature: float) -> None:
    student, teacher = logits(0), logits(1)
    q, p = ((z.double() / temperature).softmax(-1) for z in (student, teacher))
    expected = temperature**2 * (p * (p / q).log()).sum(-1).mean()
    assert float(kl_divergence(student, teacher, temperature)) == pytest.approx(
        float(expected), rel=1e-5
    )
    twice = temperature**2 * (p.softmax(-1) * (p.softmax(-1) / q).log()).sum(-1).mean()
    assert abs(float(expected - twice)) > 0.1  # the teacher is softmaxed once


def test_the_gradient_is_the_difference_of_the_distributions_and_only_the_students() -> None:
    student, teacher = logits(0).requires_grad_(), logits(1).requires_grad_()
    kl_divergence(student, teacher, 2.0).backward()
    expected = 2.0 * ((student / 2).softmax(-1) - (teacher / 2).softmax(-1)) / len(student)
    assert torch.allclose(student.grad, expected, atol=1e-6)  # type: ignore[arg-type]
    assert teacher.grad is None


def test_equal_logits_have_no_divergence_and_half_precision_computes_in_float32() -> None:
    assert float(kl_divergence(logits(0), logits(0))) == pytest.approx(0.0, abs=1e-7)
    student, teacher = logits(0).bfloat16(), logits(1).bfloat16()
    found = kl_divergence(student, teacher)
    assert found.dtype == torch.float32
    assert float(found) == pytest.approx(float(kl_divergence(student.float(), teacher.float())))


def test_proximal_term_is_half_the_squared_distance() -> None:
    theta = {
        "a": torch.tensor([1.0, 2.0], requires_grad=True),
        "b": torch.tensor([[3.0]], requires_grad=True),
    }
    anchor = {"a": torch.tensor([0.0, 4.0]), "b": torch.tensor([[1.0]])}
    value = proximal_term(theta, anchor)
    value.backward()
    assert float(value) == 0.5 * (1 + 4 + 4)
    assert torch.equal(theta["a"].grad, torch.tensor([1.0, -2.0]))  # type: ignore[arg-type]
