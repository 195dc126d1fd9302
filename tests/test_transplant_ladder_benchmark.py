"""Test the transplant ladder: its parts on small tensors, and its tables against its jobs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.accuracy import transplant_ladder_table
from benchmarks.accuracy.transplant_model import relabel
from benchmarks.accuracy.transplant_moves import (
    accuracy,
    average,
    flat,
    margins_of,
    masked,
    of_clients,
    unflat,
)
from benchmarks.common.marks import PAGE
from benchmarks.common.paths import RESULTS, read_result
from fedmosaic.adapters import CoLoraConfig, build_pair
from fedmosaic.alignment.transfer import (
    AnswerEffects,
    CoLoraFrame,
    kernel_ridge,
    record_effects,
    record_margins,
)
from fedmosaic.miniature.benchmark.load import load_task
from fedmosaic.models.backbone import Backbone

SITES, TASKS, RANK = 2, 3, 4


def some_pair(seed: int) -> Any:
    draw = torch.Generator().manual_seed(seed)
    shape = SITES, TASKS, RANK, RANK
    return torch.randn(shape, generator=draw), torch.randn(shape[:3], generator=draw)


def test_a_pair_and_its_vectors_hold_the_same() -> None:
    pair = some_pair(0)
    vectors = [flat(pair, task) for task in range(TASKS)]
    size = RANK * RANK
    assert torch.equal(vectors[1][:size], pair[0][0, 1].flatten())
    assert torch.equal(vectors[1][size : size + RANK], pair[1][0, 1])
    for one, other in zip(unflat(pair, vectors), pair, strict=True):
        assert torch.equal(one, other)
    halves = average(pair, tuple(3 * each for each in pair))
    torch.testing.assert_close(halves[0], 2 * pair[0])


def test_the_mask_clears_entries_that_a_few_examples_contradict() -> None:
    pair = some_pair(1)
    rows = [flat(pair, task) * torch.tensor([1.0, -1.0]).repeat(20) for task in range(TASKS)]
    few = [AnswerEffects(row[None], torch.ones(1)) for row in rows]
    found = [flat(masked(pair, few), task) for task in range(TASKS)]
    for task, values in enumerate(found):
        assert torch.equal(values[::2], flat(pair, task)[::2]) and not values[1::2].any()


def test_readings_choose_by_what_they_say() -> None:
    right = torch.tensor([0, 1])
    model: Any = SimpleNamespace(test=SimpleNamespace(right=right), tasks=["a", "b"])
    zero = torch.tensor([[0.0, 5.0], [0.0, 5.0]])
    moved = torch.tensor([[1.0, 5.0], [1.0, 5.0]])
    assert accuracy(model, moved, zero, "plain") == [0.0, 1.0]
    assert accuracy(model, moved, zero, "difference") == [1.0, 0.0]
    assert accuracy(model, moved, zero, "amplified", 3.0) == [0.0, 1.0]
    assert accuracy(model, moved, zero, "amplified", 30.0) == [1.0, 0.0]


def test_exchanged_words_are_those_that_are_scored() -> None:
    examples = load_task("icon-0", seed=0, train_limit=4).train
    for before, after in zip(examples, relabel(examples), strict=True):
        assert after.spellings == after.options != before.options
        assert after.answer != before.answer and after.choice == before.choice


def test_the_ladder_is_what_the_jobs_give() -> None:
    jobs = transplant_ladder_table.finished()
    found = transplant_ladder_table.result_of(jobs)
    assert json.loads(json.dumps(found)) == read_result("transplant_ladder")
    page = transplant_ladder_table.page(jobs, read_result("transplant_ladder/chosen"))
    assert page == (RESULTS / "transplant_ladder.md").read_text()
    assert transplant_ladder_table.short_table(found) in PAGE.read_text()
    assert len(jobs) == 5 and len({job["pretraining"] for job in jobs}) == 2


def test_margins_are_what_the_algorithm_learns_from() -> None:
    backbone = Backbone.load("miniature/llama-8x96")
    frame = CoLoraFrame.of(build_pair(backbone.fork(), CoLoraConfig(r=RANK, num_blocks=SITES)))
    examples = load_task("icon-0", seed=0, train_limit=6).train
    effects = record_effects(backbone, frame, examples)
    found = margins_of(effects, len(effects.rows) // len(examples))
    torch.testing.assert_close(found, record_margins(backbone, frame, examples))
    halves = of_clients([found, -found, found, 2 * found], 6, 1.0, 1.0)
    rows = torch.cat([found[:2], -found[:2], found[:2]])
    one = kernel_ridge(rows, torch.ones(6), 1.0)
    for each in halves[:3]:
        torch.testing.assert_close(each, one)
    torch.testing.assert_close(halves[3], kernel_ridge(2 * found[:2], torch.ones(2), 1.0))
    second = of_clients([found, -found, found], 6, 0.3, 1.0)[1]
    weights = torch.tensor([0.3, 0.3, 1.0, 1.0, 0.3, 0.3])
    assert torch.equal(second, kernel_ridge(rows, torch.ones(6), 1.0, weights=weights))
    assert not torch.equal(second, one)
