"""Functional refinement: effects are gradients, known rotations are undone, training brings models nearer, a run finds the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment import align
from fedmosaic.alignment.hooks import Injection, linear_at
from fedmosaic.alignment.refinement.closed_form import (
    STRENGTH,
    Moments,
    agreement,
    balance,
    condition,
    conditioned,
    strengths,
)
from fedmosaic.alignment.refinement.effects import Traces, effects, learn, trace
from fedmosaic.alignment.refinement.group import Participant, judge, refine
from fedmosaic.alignment.refinement.pseudo_tasks import (
    CONTRASTS,
    Question,
    answerable_words,
    make_questions,
    make_task,
    principal_features,
)
from fedmosaic.alignment.store import save_alignment
from fedmosaic.config import AlignmentSettings, RefineSettings, RunSettings
from fedmosaic.config.load import load_scenario
from fedmosaic.data import public_examples
from fedmosaic.data.example import Example, Turn
from fedmosaic.errors import CheckpointError, DataError
from fedmosaic.federation.runtime import Runtime
from fedmosaic.federation.transport import InProcess
from fedmosaic.models.backbone import Backbone

LLAMA, QWEN = "miniature/llama-8x96", "miniature/qwen2-10x112"
RANK, WIDTH = 6, 8
EQUAL = {"block.0.o": 1.0, "block.1.o": 1.0}
QUICK = RefineSettings(steps=2, questions=4, size=16, kept=3, batch=2, tasks=2, support=8)


@pytest.fixture(scope="module")
def pair() -> list[Backbone]:
    return [Backbone.load(LLAMA), Backbone.load(QWEN)]


@pytest.fixture(scope="module")
def public() -> list[Example]:
    return list(public_examples("miniature/public", 40, 0))


def some_question(examples: int = 64) -> Question:
    draw = np.random.default_rng(3)
    options = torch.tensor(np.array([draw.permutation(4)[:3] for _ in range(examples)]))
    return Question([], options, 4)


def some_traces(
    seed: int, examples: int = 64, rotation: tuple[Tensor, Tensor] | None = None
) -> Traces:
    """Made-up activations that depend on a few hidden variables; ``rotation`` shows the same in other coordinates."""
    draw = torch.Generator().manual_seed(seed)
    world = torch.Generator().manual_seed(0)
    hidden = torch.randn(examples, 5, generator=draw)
    weight = torch.randn(5, WIDTH, generator=world)
    x = torch.stack((torch.randn(examples, WIDTH, generator=draw) * 0.1, hidden @ weight), 1)
    words = torch.randn(4, WIDTH, generator=world)
    felt = CONTRASTS @ words[some_question(examples).options]
    g = felt[:, :, None] + 0.3 * torch.randn(examples, 2, 2, WIDTH, generator=draw)
    if rotation is not None:
        x, g = x @ rotation[0], g @ rotation[1]
    return Traces(
        {"block.0.o": x, "block.1.o": x},
        {"block.0.o": g, "block.1.o": g},
        torch.zeros(examples, 2).bool(),
    )


def moments(*models: list[Traces]) -> Moments:
    found = Moments()
    for traces in zip(*models, strict=True):
        found.update(traces)
    return found


def rotations() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(9)
    one, two = (torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=draw)).Q for _ in range(2))
    return one, two


def strangers(seed: int) -> dict[str, Tensor]:
    """Random A and B."""
    draw = torch.Generator().manual_seed(seed)
    shapes = {"A": (RANK, WIDTH), "B": (WIDTH, RANK)}
    return {
        f"block.{k}.o.{name}": torch.randn(*shapes[name], generator=draw)
        for k in (0, 1)
        for name in shapes
    }


# --- pseudo-tasks -------------------------------------------------------------------------------------------------------
def test_questions_offer_words_and_are_drawn_by_their_seed(
    pair: list[Backbone], public: list[Example]
) -> None:
    words = answerable_words(pair[0], public, 0)
    assert len({pair[0].answer_ids(word)[0] for word in words}) == len(words) > 100
    assert {"red", "yes", "two"} < set(words[:60])  # what this model is wont to answer
    questions = make_questions(public, words, 4, 10, 0)
    for question in questions:
        assert (
            len(question.examples) == 10
            and question.options.shape == (10, 3)
            and int(question.options.max()) < question.words
        )
        assert len({len(example.images) for example in question.examples}) == 1
        assert all(len(set(row)) == 3 for row in question.options.tolist())
        for example in question.examples:
            assert set(example.options) <= set(words) and example.question.endswith(
                ", ".join(example.options)
            )
    again = make_questions(public, words, 4, 10, 0)
    texts = [[example.question for example in question.examples] for question in questions]
    assert texts == [[example.question for example in question.examples] for question in again]
    assert texts != [
        [e.question for e in q.examples] for q in make_questions(public, words, 4, 10, 1)
    ]


def test_questions_about_texts_quote_them(pair: list[Backbone]) -> None:
    texts = [
        Example(str(k), (Turn("user", f"the {k}th text of all"), Turn("assistant", "yes")))
        for k in range(20)
    ]
    (question,) = make_questions(texts, answerable_words(pair[0], texts, 0), 1, 16, 0)
    assert all("th text of all" in example.question for example in question.examples)


def test_a_task_names_the_place_of_the_right_word() -> None:
    question = some_question()
    feature = torch.arange(64.0).remainder(4)[:, None] * 10
    task = make_task(question, [feature], 20, np.random.default_rng(0))
    assert (
        task is not None
        and not set(task.support.tolist()) & set(task.query.tolist())
        and len(task.support) == 20
    )
    said: dict[float, set[int]] = {}
    for index in [*task.support.tolist(), *task.query.tolist()]:
        word = int(question.options[index, task.answers[index]])
        said.setdefault(float(feature[index]), set()).add(word)
    assert (
        len(said) == 4
        and all(len(found) == 1 for found in said.values())
        and len(set.union(*said.values())) == 4
    )
    assert torch.allclose(
        task.targets.sum(1) ** 2 >= 0, torch.tensor(True)
    ) and task.targets.shape == (20, 2)


def test_principal_features_are_centred_and_fall_in_size() -> None:
    rows = (
        torch.randn(50, 7, generator=torch.Generator().manual_seed(1)) * torch.arange(1.0, 8.0) + 5
    )
    found = principal_features(rows, 4)
    assert found.shape == (50, 4) and found.mean(0).abs().max() < 1e-4
    assert bool((found.norm(dim=0).diff() < 0).all())


# --- effects ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", [0, 1])
def test_effects_are_the_gradients_of_p(
    pair: list[Backbone], public: list[Example], which: int
) -> None:
    model = pair[which]
    sites = sites_of([2, 5], ["o_proj", "down_proj"])
    (question,) = make_questions(public, answerable_words(model, public, 0), 1, 3, 0)
    draw = torch.Generator().manual_seed(0)
    subspaces = {}
    for site in sites:
        linear = linear_at(model, site)
        subspaces[f"{site.key}.A"] = torch.randn(RANK, linear.in_features, generator=draw)
        subspaces[f"{site.key}.B"] = torch.randn(linear.out_features, RANK, generator=draw)
    found = effects(trace(model, sites, question, unit=1.0), subspaces)
    batch = model.collate([model.encode(example, answer=False) for example in question.examples])
    p = torch.zeros(len(sites), 3, RANK, RANK, requires_grad=True)
    with Injection(model, sites, subspaces)(p, torch.zeros(len(sites), 3, RANK)):
        output = model.model(
            inputs_embeds=model.embed(batch),
            attention_mask=batch.attention_mask,
            logits_to_keep=1,
            use_cache=False,
        )
    first = torch.tensor(
        [[model.answer_ids(word)[0] for word in example.options] for example in question.examples]
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


# --- starts and training ------------------------------------------------------------------------------------------------
def test_known_rotations_are_undone() -> None:
    plain = [some_traces(seed) for seed in range(4)]
    turned = [some_traces(seed, rotation=rotations()) for seed in range(4)]
    for one, two in (
        moments(plain, turned).shared(RANK),
        (first := moments(plain).shared(RANK)[0], moments(turned, plain).joined(first)),
    ):
        a, b = (balance(s, t, EQUAL) for s, t in ((one, plain), (two, turned)))
        left, right = (effects(t[0], s).flatten(0, 1) for t, s in ((plain, a), (turned, b)))
        cosine = (left * right).sum() / (left.norm() * right.norm())
        assert cosine > 0.95, float(cosine)
    stray = effects(turned[0], balance(strangers(1), turned, EQUAL)).flatten(0, 1)
    assert (left * stray).sum().abs() / (left.norm() * stray.norm()) < 0.5


def test_balance_gives_every_model_the_same_strength_in_the_shares_asked_for() -> None:
    traces = [some_traces(0)]
    pair = moments(traces).shared(RANK)[0]
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


def test_sites_are_weighted_by_how_far_the_models_agree_there() -> None:
    plain, turned = (
        [some_traces(seed, rotation=r) for seed in range(4)] for r in (None, rotations())
    )
    one, two = moments(plain, turned).shared(RANK)
    stray = strangers(1)
    mixed = {key: (two if key.startswith("block.0") else stray)[key] for key in two}
    found = agreement([one, mixed], [plain, turned])
    assert found["block.0.o"] > 0.9 and found["block.1.o"] < 0.3
    assert agreement([one], [plain]) == {"block.0.o": 1, "block.1.o": 1}
    opposite = {key: -value if key.endswith("B") else value for key, value in one.items()}
    assert agreement([one, opposite], [plain, plain]) == pytest.approx(
        {"block.0.o": -1, "block.1.o": -1}
    )
    turned_off = balance(one, plain, {"block.0.o": 1, "block.1.o": -1})
    assert strengths(turned_off, plain)["block.1.o"] == pytest.approx(
        0.01 * strengths(turned_off, plain)["block.0.o"]
    )


def test_conditions_are_bounded_and_the_rest_is_kept() -> None:
    wild = {"A": torch.diag(torch.tensor([10.0, 5.0, 0.01])), "B": torch.eye(3)}
    found = conditioned(wild)
    assert condition(wild) == pytest.approx(1000, rel=1e-3) and condition(found) == pytest.approx(
        9, rel=1e-3
    )
    assert torch.allclose(found["A"].diagonal()[:2], torch.tensor([10.0, 5.0])) and torch.allclose(
        found["B"], torch.eye(3)
    )


def test_training_makes_strangers_understand_one_another_and_leaves_the_fixed_one_alone() -> None:
    settings = RefineSettings(steps=300, questions=8, size=64, batch=2, tasks=4, lr=0.05)
    plain, turned = (
        [some_traces(seed, rotation=r) for seed in range(8)] for r in (None, rotations())
    )
    held = [[some_traces(seed, rotation=r) for seed in range(20, 30)] for r in (None, rotations())]
    start = [balance(strangers(n), t, EQUAL) for n, t in enumerate((plain, turned))]
    questions = [some_question()] * 10
    models = [
        Participant(plain, dict(start[0]), trained=False),
        Participant(turned, {key: value.clone() for key, value in start[1].items()}),
    ]
    refine(models, questions[:8], settings, 0, lambda *_: None)
    before, after = (
        judge(
            [Participant(h, pairs) for h, pairs in zip(held, found, strict=True)],
            questions,
            settings,
            0,
        )
        for found in (start, [model.subspaces for model in models])
    )
    # chance is a third
    assert before[0, 1] < 0.4 < 0.5 < before[0, 0] and before[1, 0] < 0.4
    assert after[0, 1] > 0.55 and after[1, 0] > 0.55 and after[1, 1] > before[1, 1] - 0.02
    assert after[0, 0] == before[0, 0]
    assert all(torch.equal(models[0].subspaces[key], value) for key, value in start[0].items())


# --- the whole ----------------------------------------------------------------------------------------------------------
def test_a_group_is_refined_once_and_found_again(
    pair: list[Backbone], public: list[Example]
) -> None:
    settings = AlignmentSettings(
        rank=RANK, blocks=3, modules=("o_proj",), layers="even", refine=QUICK
    )
    told: list[str] = []
    made = align(pair, pair[0], public, settings, lambda what, *_: told.append(what))
    assert "refining" in told and made[1].report["layers"] == [2, 6, 9]
    for one in made:
        assert one.identity.settings["group"] == sorted(model.fingerprint for model in pair)
        report = one.report["refinement"]
        assert report["condition"] <= 9.001 and len(report["own"]) == 2 and len(report["from"]) == 1
        assert condition(one.tensors) == pytest.approx(report["condition"], rel=1e-3)
    told.clear()
    again = align(pair, pair[0], public, settings, lambda what, *_: told.append(what))
    assert not told and all(
        torch.equal(x.tensors[k], y.tensors[k])
        for x, y in zip(made, again, strict=True)
        for k in x.tensors
    )
    alone = align(pair[:1], pair[0], public, settings)
    assert alone[0].identity.key != made[0].identity.key


def test_too_few_examples_and_too_large_a_rank_are_told(
    pair: list[Backbone], public: list[Example]
) -> None:
    settings = AlignmentSettings(rank=RANK, blocks=2, modules=("o_proj",), refine=QUICK)
    with pytest.raises(DataError, match="more public examples than 3"):
        align(pair, pair[0], public[:3], settings)
    with pytest.raises(DataError, match="rank 97 is above the width 96"):
        align(pair, pair[0], public, settings.model_copy(update={"rank": 97}))


def test_a_run_learns_on_refined_pairs_as_they_are(tiny: Path) -> None:
    scenario = load_scenario(
        tiny,
        [
            "alignment={refine: {steps: 2, questions: 3, size: 16, kept: 2}, layers: even, size: 40, method: gradients}",
            "adapter={r: 4, alpha: 8, num_blocks: 2, shared_r: 6, shared_modules: [o_proj]}",
            f"alignment.pivot={LLAMA}",
            f"relevance.model={LLAMA}",
        ],
    )
    clients = InProcess(
        Runtime(RunSettings(name="stage", algorithm="fedmosaic", scenario=scenario))
    ).clients
    for name in ("a", "b"):
        client = clients[name]
        aligned = client.runtime.alignment(client.spec.model)
        layer = client.model.get_submodule(f"base_model.model.{client.backbone.layers_prefix}")[
            aligned.report["layers"][0]
        ]
        held = layer.self_attn.o_proj.colora_shared
        assert torch.equal(held["frozen_A"], aligned.tensors["block.0.o_proj.A"])
        assert torch.equal(held["frozen_B"], aligned.tensors["block.0.o_proj.B"])


# --- who joins later ----------------------------------------------------------------------------------------------------
def test_a_joiner_changes_nobody_and_a_larger_group_of_the_package_serves(
    pair: list[Backbone], public: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama, qwen = pair
    large = Backbone.load("miniature/llama-12x128")
    some = RefineSettings(questions=40, size=12, kept=10)
    settings = AlignmentSettings(rank=24, blocks=4, modules=("o_proj",), layers="even", refine=some)
    founders = align(pair, llama, public, settings)
    for one in founders:
        save_alignment(one, tmp_path)
    join = settings.model_copy(update={"refine": some.model_copy(update={"join": str(tmp_path)})})
    told: list[str] = []
    found = align([qwen, large, llama], llama, public, join, lambda what, *_: told.append(what))
    for was, now in zip(founders, (found[2], found[0]), strict=True):
        assert was.digest == now.digest
    joined = found[1]
    assert (
        joined.settings["joined"] == founders[0].digest and "group" not in joined.settings and told
    )
    report = joined.report["refinement"]
    assert report["from"][LLAMA][1] > report["from"][LLAMA][0] + 0.02  # than with random A and B
    told.clear()
    again = align([large], llama, public, join, lambda what, *_: told.append(what))
    assert again[0].digest == joined.digest and not told

    with pytest.raises(CheckpointError, match=r"refined otherwise .*'rank' \(24 -> 5\)"):
        align([large], llama, public, join.model_copy(update={"rank": 5}))
    with pytest.raises(
        CheckpointError, match=r"no refined pair of miniature/qwen2-10x112 to join.*--refine"
    ):
        align([large], qwen, public, join)
    save_alignment(align([llama], llama, public, settings)[0], tmp_path)
    with pytest.raises(CheckpointError, match="2 groups"):
        align([large], llama, public, join)

    bundled = tmp_path / "package"
    for one in align([llama, qwen, large], llama, public, settings):
        save_alignment(one, bundled)
    monkeypatch.setenv("FEDMOSAIC_CACHE", str(tmp_path / "empty"))
    monkeypatch.setattr("fedmosaic.alignment.store.BUNDLED", bundled)
    told.clear()
    served = align([llama, large], llama, public, settings, lambda what, *_: told.append(what))
    assert not told and len(served[0].settings["group"]) == 3
