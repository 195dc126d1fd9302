"""Check the distillation loss against float64 references, and predictions at their positions."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor

from fedmosaic.data import public_examples
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE
from fedmosaic.training.distil import (
    Predictions,
    PublicBatches,
    distillation_loss,
    label_logits,
    predict,
    soften,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(
        *shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0, 20.0])
def test_with_the_whole_vocabulary_it_is_hintons_loss(temperature: float) -> None:
    teacher, student = noise(5, 11, seed=1), noise(5, 11, seed=2).requires_grad_()
    p, q = (teacher / temperature).softmax(-1), (student / temperature).softmax(-1)
    expected = temperature**2 * (p * (p.log() - q.log())).sum(-1).mean()
    (gradient,) = torch.autograd.grad(expected, student)
    found = distillation_loss(student, soften(teacher, temperature, 99), temperature)
    assert torch.isclose(found.double(), expected, rtol=1e-5)
    (found_gradient,) = torch.autograd.grad(found, student)
    assert torch.allclose(found_gradient, gradient, rtol=1e-4, atol=1e-6)
    assert torch.allclose(gradient, temperature * (q - p) / 5, atol=1e-12)


@pytest.mark.parametrize("top_k", [1, 3, 10])
def test_the_rest_of_the_vocabulary_is_one_outcome(top_k: int) -> None:
    teacher, student, temperature = noise(4, 11, seed=1), noise(4, 11, seed=2), 2.0
    expected = 0.0
    for z, s in zip(teacher.tolist(), student.tolist(), strict=True):
        p, q = ([math.exp(v / temperature) for v in row] for row in (z, s))
        p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
        named = sorted(range(11), key=lambda i: -p[i])[:top_k]
        pairs = [(p[i], q[i]) for i in named] + [
            (1 - sum(p[i] for i in named), 1 - sum(q[i] for i in named))
        ]
        expected += temperature**2 / 4 * sum(a * math.log(a / b) for a, b in pairs)
    found = distillation_loss(student, soften(teacher, temperature, top_k), temperature)
    assert math.isclose(float(found), expected, rel_tol=1e-4)


@pytest.mark.parametrize("top_k", [2, 7])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_student_equal_to_its_targets_has_no_loss(temperature: float, top_k: int) -> None:
    """Check a student equal to its targets; a second softmax would leave a loss."""
    student = noise(3, 7).requires_grad_()
    loss = distillation_loss(student, soften(student.detach(), temperature, top_k), temperature)
    (gradient,) = torch.autograd.grad(loss, student)
    assert abs(float(loss.detach())) < 1e-5 and gradient.abs().max() < 1e-5
    twice = distillation_loss(
        student, soften(student.detach().softmax(-1), temperature, top_k), temperature
    )
    assert float(twice.detach()) > 0.1


def test_positions_without_a_prediction_do_not_count() -> None:
    student = noise(3, 7).requires_grad_()
    targets = soften(noise(3, 7, seed=1), 1.0, 4)
    partial_targets = Predictions(
        targets.probabilities * torch.tensor([[1.0], [0.0], [1.0]]), targets.tokens
    )
    loss = distillation_loss(student, partial_targets)
    assert torch.isclose(loss, distillation_loss(student[[0, 2]], targets.at(torch.tensor([0, 2]))))
    (gradient,) = torch.autograd.grad(loss, student)
    assert (
        torch.equal(gradient[1], torch.zeros(7, dtype=torch.float64))
        and torch.isfinite(gradient).all()
    )
    nothing = distillation_loss(student, Predictions(torch.zeros(3, 4), targets.tokens))
    assert float(nothing) == 0.0 and torch.autograd.grad(nothing, student)[0].abs().sum() == 0


@pytest.mark.parametrize("name", ["miniature/llama-8x96", "miniature/qwen2-10x112"])
def test_each_prediction_is_of_its_label(name: str) -> None:
    """Compare with single unpadded prompts that end before the label."""
    backbone = Backbone.load(name)
    examples = public_examples("miniature/public", 12)
    predictions, losses = predict(
        partial(label_logits, backbone.model, backbone),
        backbone,
        examples,
        temperature=2.0,
        top_k=10**6,
        batch_size=5,
    )
    position = 0
    for example, loss in zip(examples, losses.tolist(), strict=True):
        encoded = backbone.encode(example)
        answer_loss = 0.0
        for place, label in enumerate(encoded.labels):
            if label == IGNORE:
                continue
            with torch.no_grad():
                part = replace(
                    encoded, input_ids=encoded.input_ids[:place], labels=encoded.labels[:place]
                )
                logits = backbone.logits(backbone.model, backbone.collate([part]))[0, -1].double()
            answer_loss -= float(logits.log_softmax(-1)[label])
            row = predictions.at(torch.tensor([position]))
            dense = torch.zeros(len(logits)).scatter(0, row.tokens[0].long(), row.probabilities[0])
            assert torch.allclose(dense.double(), (logits / 2.0).softmax(-1), atol=1e-4)
            position += 1
        assert math.isclose(answer_loss, loss, rel_tol=1e-3, abs_tol=1e-4)
    assert position == len(predictions.tokens) > len(examples)


def test_public_batches_draw_each_example_before_any_comes_again() -> None:
    backbone = Backbone.load("miniature/llama-8x96")
    examples = public_examples("miniature/public", 10)

    def drawn(seed: int) -> list[tuple[list[str], list[int]]]:
        batches = PublicBatches(backbone, examples, 4, torch.Generator().manual_seed(seed))
        assert batches.steps == 3
        return [
            ([example.id for example in batches.draw()], batches.rows.tolist()) for _ in range(5)
        ]

    found = drawn(1)
    ids = [name for names, _ in found for name in names]
    assert sorted(ids[:10]) == sorted(ids[10:]) == sorted(example.id for example in examples)
    labels = [
        [label for label in backbone.encode(example).labels if label != IGNORE]
        for example in examples
    ]
    flat = [label for row in labels for label in row]
    by_id = dict(zip((example.id for example in examples), labels, strict=True))
    for names, rows in found:
        assert [flat[row] for row in rows] == [label for name in names for label in by_id[name]]
    assert found == drawn(1) != drawn(2)
    assert len(PublicBatches(backbone, examples[:2], 4, torch.Generator()).draw()) == 2
