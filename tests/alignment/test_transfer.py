"""Check P and Q that are learned for other architectures against autograd and the primal ridge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from syllables import CONTENT_WORDS, sentences, word_model
from torch import Tensor
from traced import RANK, moments, random_pair, rotations, some_traces

from fedmosaic.adapters import CoLoraConfig, build_pair, read_state, write_state
from fedmosaic.adapters.state import adapter_parameters
from fedmosaic.alignment.refinement.effects import effects
from fedmosaic.alignment.transfer import (
    CoLoraFrame,
    from_margins,
    kernel_ridge,
    learn_transferable,
    record_effects,
    record_margins,
    translate,
    translators,
)
from fedmosaic.alignment.transfer.effects import with_alternatives
from fedmosaic.data import Example
from fedmosaic.errors import DataError, ModelError
from fedmosaic.evaluation.difference import by_difference, likeliest
from fedmosaic.evaluation.likelihood import Questions
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE


@pytest.fixture(scope="module")
def exact() -> Backbone:
    """The model of words in float64."""
    backbone = word_model()
    backbone.model.double()
    return backbone


def adapted(backbone: Backbone, **options: Any) -> Any:
    settings = {"r": 4, "lora_alpha": 8.0, "num_blocks": 2, "gate": "none", **options}
    model = build_pair(backbone.fork(), CoLoraConfig(**settings)).double().eval()
    model.base_model.set_adapter("local")
    return model


def choices(count: int, lengths: Sequence[int] = (1, 1, 1), seed: int = 0) -> list[Example]:
    """Return questions whose options have so many words; the right one is at any place."""
    found = []
    for number, example in enumerate(sentences(count, seed)):
        words = iter(CONTENT_WORDS[7 * number % 30 :])
        options = tuple(" ".join(next(words) for _ in range(length)) for length in lengths)
        found.append(replace(example, options=options, choice=number % len(options), spellings=()))
    return found


def score(backbone: Backbone, model: Any, example: Example, option: str) -> Tensor:
    """Return the log-probability of an option's words; of the end, too, if any has several."""
    batch = backbone.collate([backbone.encode_option(example, option)])
    logs = model(**batch.inputs).logits[0, :-1].log_softmax(-1)
    used = batch.labels[0, 1:] != IGNORE
    picked = logs[used].gather(1, batch.labels[0, 1:][used, None])[:, 0]
    several = any(" " in other for other in example.options)
    return picked.sum() if several else picked[0]


@pytest.mark.parametrize("lengths", [(1, 1, 1), (1, 2, 3), (1, 1)])
@pytest.mark.parametrize("q", [True, False])
def test_effects_are_the_gradients_of_p_and_q(
    exact: Backbone, lengths: tuple[int, ...], q: bool
) -> None:
    model, examples = adapted(exact, q=q), choices(5, lengths)
    frame = CoLoraFrame.of(model)
    assert frame.scaling == 2.0
    found = record_effects(exact, frame, examples, batch_size=3).rows.split(len(lengths))
    blocks = {
        key: value
        for key, value in adapter_parameters(model, "local").items()
        if key.startswith("block.")
    }
    for example, rows in zip(examples, found, strict=True):
        scores = torch.stack([score(exact, model, example, one) for one in example.options])
        for number, value in enumerate(scores - scores.mean()):
            gradients = torch.autograd.grad(value, list(blocks.values()), retain_graph=True)
            own = frame.split(rows[number])
            assert set(own) == set(blocks)
            for key, gradient in zip(blocks, gradients, strict=True):
                # Llama norms compute in float32, whatever the model has.
                torch.testing.assert_close(own[key], gradient, atol=1e-6, rtol=1e-5)
            assert sum(float(gradient.abs().sum()) for gradient in gradients) > 1e-3


def test_the_solution_is_the_primal_ridge(exact: Backbone) -> None:
    recorded = record_effects(exact, CoLoraFrame.of(adapted(exact, r=2)), choices(30))
    rows, targets = recorded.rows, recorded.targets.double()
    assert rows.dtype == torch.float64 and len(rows) == 90 > rows.shape[1]
    torch.testing.assert_close(targets[:3], torch.tensor([2.0, -1, -1]).double() / 3)
    for penalty in (0.1, 3.0):
        ridge = penalty * rows.square().sum(1).mean() * torch.eye(rows.shape[1]).double()
        primal = torch.linalg.solve(rows.t() @ rows + ridge, rows.t() @ targets)
        torch.testing.assert_close(kernel_ridge(rows, targets, penalty), primal)
        warm = kernel_ridge(rows, targets, penalty, start=torch.ones_like(primal))
        moved = torch.linalg.solve(
            rows.t() @ rows + ridge, rows.t() @ targets + ridge @ torch.ones_like(primal)
        )
        torch.testing.assert_close(warm, moved)
    unit = kernel_ridge(rows * 7, targets, 0.1) * 7
    torch.testing.assert_close(unit, kernel_ridge(rows, targets, 0.1))
    assert not kernel_ridge(torch.zeros(3, 5), torch.ones(3)).any()


@pytest.mark.parametrize("lengths", [(1, 1, 1), (1, 2, 3)])
def test_a_learned_p_changes_the_scores_as_predicted(
    exact: Backbone, lengths: tuple[int, ...]
) -> None:
    model, examples = adapted(exact, r=16), choices(20, lengths)
    frame = CoLoraFrame.of(model)
    tensors = learn_transferable(exact, frame, examples, penalty=1e-3)
    small = {key: value * 0.05 for key, value in tensors.items()}
    write_state(model, "local", {**read_state(model, "local"), **small})
    questions = Questions(exact, examples, 16)
    change = by_difference(questions.scores(model), questions.scores(exact.model))
    assert likeliest(change) == [example.choice for example in examples]
    assert likeliest(questions.scores(model)) != [example.choice for example in examples]
    recorded = record_effects(exact, frame, examples)
    flat = torch.cat([tensors[key].flatten() for key in tensors])
    expected = (recorded.rows @ flat).view(20, 3)
    measured = torch.tensor(change, dtype=torch.float64) / 0.05
    measured -= measured.mean(1, keepdim=True)
    torch.testing.assert_close(measured, expected, atol=0.05, rtol=0.1)


@pytest.mark.parametrize("lengths", [(1, 1, 1), (2, 1, 3)])
def test_a_margin_is_the_right_option_less_the_mean(
    exact: Backbone, lengths: Sequence[int]
) -> None:
    frame = CoLoraFrame.of(adapted(exact))
    mixed = [*choices(3, lengths), *choices(2, lengths[:2], seed=1)]
    every = record_effects(exact, frame, mixed)
    counts = [len(example.options) for example in mixed]
    right = [example.choice or 0 for example in mixed]
    expected = [own[k] for own, k in zip(every.rows.split(counts), right, strict=True)]
    found = record_margins(exact, frame, mixed, batch_size=2)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-5, atol=1e-7)
    learned = from_margins(frame, found, penalty=1e-6)
    joined = torch.cat([learned[k].flatten() for site in frame.sites for k in _keys(site.key)])
    raised = found @ joined
    torch.testing.assert_close(raised, torch.ones_like(raised), rtol=1e-2, atol=1e-2)


def _keys(site: str) -> tuple[str, str]:
    return f"{site}.P", f"{site}.Q"


def test_without_a_wrong_option_there_is_no_margin(exact: Backbone) -> None:
    frame = CoLoraFrame.of(adapted(exact))
    same = [replace(one, options=(), choice=None) for one in choices(1)]
    for few in (same, []):
        rows = record_margins(exact, frame, few)
        assert len(rows) == len(few) and not rows.any()
        assert not any(value.any() for value in from_margins(frame, rows).values())
    other = next(word for word in CONTENT_WORDS if word != same[0].answer)
    closed = replace(same[0], options=(same[0].answer, other), choice=0)
    mixed = record_margins(exact, frame, [closed, *same])
    torch.testing.assert_close(mixed[:1], record_margins(exact, frame, [closed]))
    assert mixed[0].any() and not mixed[1].any()


def test_weighted_ridge_is_the_minimum_of_its_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    rows, targets = torch.randn(6, 20, generator=draw).double(), torch.ones(6).double()
    weights = torch.tensor([1.0, 1.0, 0.3, 0.3, 0.3, 1.0]).double()
    found = kernel_ridge(rows, targets, 0.5, weights=weights).requires_grad_()
    size = (weights * rows.square().sum(1)).sum() / weights.sum()
    loss = (weights * (targets - rows @ found).square()).sum() + 0.5 * size * found.square().sum()
    loss.backward()
    assert found.grad is not None and float(found.grad.abs().max()) < 1e-9
    plain = kernel_ridge(rows, targets, 0.5)
    torch.testing.assert_close(kernel_ridge(rows, targets, 0.5, weights=torch.ones(6)), plain)


def test_open_questions_get_the_answers_of_others() -> None:
    opened = sentences(4)
    found = with_alternatives(opened)
    answers = [example.answer for example in opened]
    assert found[1].options == (answers[1], answers[2], answers[3])
    assert found[3].options == (answers[3], answers[0], answers[1])
    assert [example.choice for example in found] == [0] * 4
    with pytest.raises(DataError, match="none of 2 examples has a wrong option"):
        with_alternatives([opened[0], opened[0]])
    wrong = replace(choices(1)[0], turns=opened[0].turns, choice=None)
    with pytest.raises(DataError, match="is none of its options"):
        record_effects(word_model(), CoLoraFrame([], {}), [wrong])


def test_translated_p_does_the_same_in_other_coordinates() -> None:
    turn = rotations()
    giver, receiver = some_traces(1), some_traces(1, rotation=turn)
    pair = random_pair(2)
    draw = torch.Generator().manual_seed(3)
    other = {}
    for name, value in pair.items():
        mix = torch.randn(RANK, RANK, generator=draw) + 3 * torch.eye(RANK)
        other[name] = mix @ value @ turn[0] if name.endswith("A") else turn[1].t() @ value @ mix
    maps = translators(moments([receiver], [giver]), [other, pair], giver=1, receiver=0)
    shapes = {"P": (RANK, RANK), "Q": (RANK,)}
    learned = {
        f"block.{k}.o.{name}": torch.randn(2, *shape, generator=draw)
        for k in (0, 1)
        for name, shape in shapes.items()
    }
    moved = translate(learned, maps)
    plain, right = (
        effects(traces, own) @ torch.cat([p[f"block.{k}.o.P"].flatten(1) for k in (0, 1)], 1).t()
        for traces, own, p in (
            (receiver, other, moved),
            (giver, pair, learned),
        )
    )
    assert float((plain - right).norm() / right.norm()) < 0.05
    wrong = (
        effects(receiver, other)
        @ torch.cat([learned[f"block.{k}.o.P"].flatten(1) for k in (0, 1)], 1).t()
    )
    assert float((wrong - right).norm() / right.norm()) > 0.3
    for k in (0, 1):  # Q acts through B alone
        g = receiver.g[f"block.{k}.o"] @ other[f"block.{k}.o.B"] @ moved[f"block.{k}.o.Q"].t()
        expected = giver.g[f"block.{k}.o"] @ pair[f"block.{k}.o.B"] @ learned[f"block.{k}.o.Q"].t()
        assert float((g - expected).norm() / expected.norm()) < 0.05


def test_a_model_without_colora_is_refused(exact: Backbone) -> None:
    with pytest.raises(ModelError, match="num_blocks"):
        CoLoraFrame.of(exact.model)


def test_the_difference_is_what_the_adapter_changes() -> None:
    adapted_scores, base = [[1.0, 0.5], [3.0, 2.0, 0.0]], [[1.5, 0.75], [0.0, 2.0, 1.0]]
    assert by_difference(adapted_scores, base) == [[-0.5, -0.25], [3.0, 0.0, -1.0]]
    assert by_difference(adapted_scores, base, 2.0) == [[0.5, 0.25], [6.0, 2.0, -1.0]]
    assert likeliest([[-0.5, -0.25], [3.0, 0.0, 3.0]]) == [1, 0]
    with pytest.raises(DataError, match="same options"):
        by_difference(adapted_scores, base[:1])
