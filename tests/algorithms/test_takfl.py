"""Check TAKFL: averages within architectures, task vectors, and the sums that are sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stub_server import StubServer
from torch import Tensor

import fedmosaic
from fedmosaic.adapters import read_state, write_state
from fedmosaic.algorithms import Message, make_algorithm
from fedmosaic.algorithms.base import Member
from fedmosaic.algorithms.takfl import TAKFL, Prototype
from fedmosaic.config import Scenario
from fedmosaic.config.load import parse
from fedmosaic.data import public_examples
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator
from fedmosaic.training.distil import Predictions, distillation_loss, label_logits

LLAMA, QWEN = "miniature/llama-8x96", "miniature/qwen2-10x112"
State = Mapping[str, Tensor]


@pytest.fixture(scope="module")
def world() -> Any:
    """Return two backbones and four public examples."""
    public = public_examples("miniature/public", 4)
    return SimpleNamespace(
        backbones={name: Backbone.load(name) for name in (LLAMA, QWEN)}, public=public
    )


def federation(world: Any, models: Sequence[str], **options: Any) -> tuple[Any, Any]:
    content = {
        "clients": [
            {"name": f"c{i}", "model": model, "tasks": ["t"]} for i, model in enumerate(models)
        ],
        "data": {"public": "miniature/public"},
        "adapter": {"r": 2, "alpha": 4, "dropout": 0.0, "target_modules": ["q_proj", "down_proj"]},
        "train": {"batch_size": 4, "lr": 1e-3},
        "algorithms": {"takfl": {"public_steps": 2, **options}},
    }
    members = [
        Member(name=f"c{i}", architecture=model, samples=1 + i) for i, model in enumerate(models)
    ]
    server = StubServer(
        members,
        generator=lambda purpose: generator(0, purpose),
        backbones=world.backbones,
        public=world.public,
    )
    return make_algorithm("takfl", parse(Scenario, content, "test"), 0), server


def updates(algorithm: Any, world: Any, models: Sequence[str]) -> dict[str, Message]:
    """Return adapters as after some training: near those built, with B no longer zero."""
    found = {}
    for index, model in enumerate(models):
        state = read_state(algorithm.build(world.backbones[model], world.public), "local")
        noise = torch.Generator().manual_seed(index)
        found[f"c{index}"] = Message(
            {
                name: value + 0.05 * torch.randn(value.shape, generator=noise)
                for name, value in state.items()
            }
        )
    return found


def mean(states: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    total = sum(weights)
    return {
        n: sum(w * s[n].double() for w, s in zip(weights, states, strict=True)) / total
        for n in states[0]
    }


class Watch:
    """Record what every student starts from and learns, by student and teacher."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.learned: dict[tuple[str, str], tuple[State, State]] = {}
        real = Prototype.learn

        def learn(student: Any, start: State, own: Any, targets: Any, teacher: str) -> State:
            result = real(student, start, own, targets, teacher)
            self.learned[student.backbone.name, teacher] = (start, result)
            return result

        monkeypatch.setattr(Prototype, "learn", learn)


def test_task_vectors_are_something_and_their_sum_is_sent(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, watch = [LLAMA, QWEN, LLAMA], Watch(monkeypatch)
    algorithm, server = federation(world, models)
    sent = updates(algorithm, world, models)
    algorithm.aggregate(server, sent)
    # qwen's one client is its own ensemble, from which it has nothing to learn
    assert set(watch.learned) == {(LLAMA, LLAMA), (LLAMA, QWEN), (QWEN, LLAMA)}
    averages = {
        LLAMA: mean([sent["c0"].tensors, sent["c2"].tensors], [1, 3]),
        QWEN: mean([sent["c1"].tensors], [1]),
    }
    for model, member in ((LLAMA, 0), (QWEN, 1), (LLAMA, 2)):
        expected = {name: value.clone() for name, value in averages[model].items()}
        for (student, teacher), (start, learned) in watch.learned.items():
            if student == model:
                assert all(
                    torch.allclose(start[n].double(), averages[model][n], atol=1e-6) for n in start
                )
                vector = {n: learned[n].double() - averages[model][n] for n in start}
                norm = float(torch.cat([v.flatten() for v in vector.values()]).norm())
                assert norm > 0.1
                assert server.report["task_vectors"][student]["norms"][teacher] == pytest.approx(
                    norm, rel=1e-3
                )
                for n in expected:
                    expected[n] += vector[n] / 2
        download = algorithm.download(server, server.members[member]).tensors
        assert all(torch.allclose(download[n].double(), expected[n], atol=1e-6) for n in expected)
    one, other = watch.learned[LLAMA, LLAMA][1], watch.learned[LLAMA, QWEN][1]
    assert any(not torch.equal(one[n], other[n]) for n in one)
    assert server.report["task_vectors"][QWEN]["weights"] == {LLAMA: 0.5, QWEN: 0.5}
    mapped = server.report["mapped"]
    assert mapped.pop(f"{LLAMA} -> {LLAMA}") == 1.0
    assert (
        set(mapped) == {f"{LLAMA} -> {QWEN}", f"{QWEN} -> {LLAMA}"} and min(mapped.values()) > 0.9
    )


def test_an_ensemble_says_the_mean_of_its_members_logits(world: Any) -> None:
    algorithm, server = federation(world, [LLAMA, LLAMA], top_k=610)
    states = [message.tensors for message in updates(algorithm, world, [LLAMA, LLAMA]).values()]
    prototype = Prototype(algorithm, server, LLAMA)
    backbone = world.backbones[LLAMA]
    batch = backbone.collate([backbone.encode(example) for example in world.public])
    logits = []
    for state in states:
        write_state(prototype.model, "local", state)
        with torch.no_grad():
            logits.append(label_logits(prototype.model, backbone, batch)[0].double())
    assert not torch.allclose(logits[0], logits[1], atol=0.1)
    predictions = prototype.predict(states, 3.0)
    expected = (torch.stack(logits).mean(0) / 3.0).softmax(-1)
    found = torch.zeros_like(expected).scatter(
        1, predictions.tokens.long(), predictions.probabilities.double()
    )
    assert torch.allclose(found, expected, atol=1e-6)


def test_distillation_brings_the_student_nearer_and_its_own_past_holds_it(world: Any) -> None:
    def learn(self_weight: float, **options: Any) -> tuple[float, float, float]:
        """Return the distance to the teacher before and after, and to the student's start."""
        algorithm, server = federation(
            world, [LLAMA, LLAMA], public_steps=8, self_weight=self_weight, **options
        )
        start, other = (
            message.tensors for message in updates(algorithm, world, [LLAMA, LLAMA]).values()
        )
        student = Prototype(algorithm, server, LLAMA)
        targets, own = student.predict([other], 3.0), student.predict([start], 20.0)
        backbone = world.backbones[LLAMA]
        batch = backbone.collate([backbone.encode(example) for example in world.public])

        def distance(state: State, anchor: Predictions, temperature: float) -> float:
            write_state(student.model, "local", state)
            with torch.no_grad():
                return float(
                    distillation_loss(
                        label_logits(student.model, backbone, batch)[0], anchor, temperature
                    )
                )

        learned = student.learn(start, own, targets, LLAMA)
        return (
            distance(start, targets, 3.0),
            distance(learned, targets, 3.0),
            distance(learned, own, 20.0),
        )

    before, free, strayed = learn(0.0)
    assert free < 0.5 * before
    _, held, near = learn(30.0)
    assert near < 0.5 * strayed and held > free


def test_teachers_do_not_build_on_one_another(world: Any) -> None:
    """Permute the clients, and with them the teachers: nothing changes."""
    models = [LLAMA, QWEN, LLAMA, QWEN]
    algorithm, server = federation(world, models)
    sent = updates(algorithm, world, models)
    algorithm.aggregate(server, sent)
    permuted, other = federation(world, models)
    other.members = [other.members[index] for index in (1, 3, 0, 2)]
    permuted.aggregate(other, sent)
    for member in server.members:
        one, two = (
            a.download(s, member).tensors for a, s in ((algorithm, server), (permuted, other))
        )
        assert all(torch.allclose(one[n], two[n], atol=1e-5) for n in one)


def test_prototypes_that_are_away_neither_teach_nor_learn(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models, watch = [LLAMA, QWEN], Watch(monkeypatch)
    algorithm, server = federation(world, models)
    sent = updates(algorithm, world, models)
    algorithm.aggregate(server, {"c0": sent["c0"]})
    assert not watch.learned and not algorithm.download(server, server.members[1]).tensors
    download = algorithm.download(server, server.members[0]).tensors
    assert all(torch.equal(download[n], value) for n, value in sent["c0"].tensors.items())


def test_weightings_are_chosen_by_what_they_do_on_public_examples(
    world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [LLAMA, QWEN]
    tried: list[float] = []
    real = Prototype.loss

    def loss(student: Any, state: State) -> float:
        tried.append(real(student, state))
        return tried[-1]

    monkeypatch.setattr(Prototype, "loss", loss)
    algorithm, server = federation(world, models, candidates=3)
    algorithm.aggregate(server, updates(algorithm, world, models))
    assert len(tried) == 8
    report = server.report["task_vectors"]
    sent = algorithm.download(server, server.members[0]).tensors
    assert real(Prototype(algorithm, server, LLAMA), sent) == pytest.approx(
        min(tried[:4]), rel=1e-5
    )
    for weights in (entry["weights"] for entry in report.values()):
        assert (
            sum(weights.values()) == pytest.approx(1.0) and weights[QWEN] >= weights[LLAMA] > 0
        )  # qwen is larger


def test_what_was_merged_is_what_the_first_step_starts_from(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check a run: clients of an architecture start from the merged weights, with a fresh Adam."""
    starts: dict[tuple[int, str], State] = {}
    sent: dict[tuple[int, str], State] = {}
    train, download = TAKFL.train, TAKFL.download

    def watched_train(self: Any, client: Any) -> Any:
        starts[client.round, client.name] = read_state(client.model, "local")
        assert not any(value.any() for value in client._client.adapted.optimiser.state().values())
        return train(self, client)

    def watched_download(self: Any, server: Any, member: Any) -> Message:
        message = download(self, server, member)
        sent[server.round, member.name] = dict(message.tensors)
        return message

    monkeypatch.setattr(TAKFL, "train", watched_train)
    monkeypatch.setattr(TAKFL, "download", watched_download)
    run = fedmosaic.run(
        tiny,
        algorithm="takfl",
        rounds=2,
        overrides=[
            "evaluation.every=0",
            "evaluation.last_items=1",
            "adapter.target_modules=[q_proj]",
        ],
        out=tmp_path / "run",
        workers=1,
        progress=False,
        trackers=(),
    )
    assert run.summary["refused"] == 0
    assert not any(sent[0, name] for name in "abcd")
    for name in "abcd":
        assert sent[1, name] and all(
            torch.equal(starts[1, name][n], v) for n, v in sent[1, name].items()
        )
    assert all(torch.equal(v, starts[1, "d"][n]) for n, v in starts[1, "a"].items())
