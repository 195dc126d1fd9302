"""Test the evaluator against plain computations with the model, and its batches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from fedmosaic.data import Example, Turn, load_task
from fedmosaic.errors import DataError
from fedmosaic.evaluation import Score, evaluate, generate
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE


@pytest.fixture(scope="module", params=["miniature/llama-8x96", "miniature/qwen2-10x112"])
def backbone(request: pytest.FixtureRequest) -> Backbone:
    return Backbone.load(request.param)


def held_out(name: str, n: int = 12) -> list[Example]:
    return list(load_task(name, test_limit=n).test)


def likelihood(backbone: Backbone, example: Example, option: str) -> float:
    """Return the log-probability of an option and the end of the turn, without batches."""
    turns = (*example.turns[:-1], Turn("assistant", option))
    batch = backbone.collate([backbone.encode(Example("x", turns, example.images))])
    with torch.no_grad():
        logs = backbone.model(**batch.inputs).logits
    logs = logs[0, :-1].double().log_softmax(-1)
    labels = batch.labels[0, 1:]
    used = labels != IGNORE
    return float(logs[used].gather(1, labels[used, None]).sum())


def test_the_likeliest_option_is_chosen(backbone: Backbone) -> None:
    examples = held_out("miniature/idiom-3")
    long = [
        Example(e.id, e.turns, e.images, (*e.options[:1], f"{e.options[0]} and {e.options[1]}"))
        for e in examples
    ]
    score = evaluate(backbone, backbone.model, long)
    for example, value in zip(long, score.values, strict=True):
        best = max(example.options, key=lambda option: likelihood(backbone, example, option))
        assert value == float(best == example.answer)


def test_one_token_options_are_ranked_by_the_next_token(backbone: Backbone) -> None:
    words = ("red", "blue", "green")
    if any(len(backbone.answer_ids(word)) != 1 for word in words):
        pytest.skip("this tokenizer splits the colours")
    examples = [
        Example(e.id, (*e.turns[:-1], Turn("assistant", "red")), e.images, words)
        for e in held_out("miniature/icon-0")
    ]
    score = evaluate(backbone, backbone.model, examples)
    for example, value in zip(examples, score.values, strict=True):
        batch = backbone.collate([backbone.encode(example, answer=False)])
        with torch.no_grad():
            logits = backbone.model(**batch.inputs).logits[0, -1]
        best = max(words, key=lambda word: float(logits[backbone.answer_ids(word)[0]]))
        assert value == float(best == "red")


@pytest.mark.parametrize("method", ["likelihood", "generation"])
def test_batches_do_not_matter(backbone: Backbone, method: str) -> None:
    examples = held_out("miniature/wardrobe-0") + held_out("miniature/idiom-1")
    whole = evaluate(backbone, backbone.model, examples, method=method)  # type: ignore[arg-type]
    single = evaluate(backbone, backbone.model, examples, method=method, batch_size=1)  # type: ignore[arg-type]
    assert whole.values == single.values and whole.n == len(examples)


def test_generation_is_the_models_own_greedy_decoding(backbone: Backbone) -> None:
    examples = held_out("miniature/icon-2", 4)
    ours = generate(backbone, backbone.model, examples, max_new_tokens=6)
    for example, text in zip(examples, ours, strict=True):
        batch = backbone.collate([backbone.encode(example, answer=False)])
        tokens = backbone.model.generate(
            **batch.inputs,
            do_sample=False,
            max_new_tokens=6,
            eos_token_id=backbone.tokenizer.eos_token_id,
            pad_token_id=backbone.tokenizer.eos_token_id,
        )
        assert (
            backbone.tokenizer.decode(
                tokens[0, batch.input_ids.shape[1] :], skip_special_tokens=True
            ).strip()
            == text
        )


def test_one_sample_that_ends_does_not_end_the_batch(backbone: Backbone) -> None:
    """End the first sample at once and go on after its end, while the second sample continues."""
    eos, word = backbone.tokenizer.eos_token_id, backbone.answer_ids("red")[0]

    class Scripted:
        def generate(self, input_ids: torch.Tensor, **_: object) -> torch.Tensor:
            written = torch.tensor([[eos, word, word], [word, word, eos]])
            return torch.cat([input_ids, written], dim=1)

    examples = [
        Example("a", (Turn("user", "x"), Turn("assistant", "y"))),
        Example("b", (Turn("user", "x"), Turn("assistant", "y"))),
    ]
    texts = generate(backbone, Scripted(), examples, max_new_tokens=5)
    assert (texts[0] == "" and texts[1].split() == ["red", "red"]) or texts[1] == "redred"


def test_open_answers_are_scored_by_their_metric(backbone: Backbone) -> None:
    task = load_task("miniature/icon-2", test_limit=6)
    assert task.kind == "open" and task.metric == "f1"
    score = evaluate(backbone, backbone.model, list(task.test), method="generation", metric="f1")
    assert 0 <= score.score <= 1 and score.n == 6


def test_mean_length_divides_by_the_tokens(backbone: Backbone) -> None:
    base = held_out("miniature/idiom-3")
    examples = [Example(e.id, e.turns, e.images, (e.options[0], " ".join(e.options))) for e in base]
    score = evaluate(backbone, backbone.model, examples, length="mean")
    for example, value in zip(examples, score.values, strict=True):
        per_token = {
            option: likelihood(backbone, example, option) / (len(backbone.answer_ids(option)) + 1)
            for option in example.options
        }
        assert value == float(max(per_token, key=per_token.__getitem__) == example.answer)


def test_accuracy_without_options_is_refused(backbone: Backbone) -> None:
    with pytest.raises(DataError, match="'open-1'"):
        evaluate(
            backbone,
            backbone.model,
            [Example("open-1", (Turn("user", "x"), Turn("assistant", "y")))],
        )


def test_every_end_token_of_the_model_ends_an_answer(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = held_out("miniature/icon-2", 1)
    first = generate(backbone, backbone.model, examples, max_new_tokens=1)[0]
    assert first
    ending = GenerationConfig(eos_token_id=backbone.answer_ids(first)[:1], repetition_penalty=9.0)
    monkeypatch.setattr(backbone.model, "generation_config", ending)
    other = Backbone("other", backbone.model, backbone.tokenizer, backbone.processor)
    assert generate(other, other.model, examples, max_new_tokens=3) == [""]


def test_generated_choices_are_read_by_the_reader_that_is_set(
    backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = (Turn("user", "Which?"), Turn("assistant", "dark red"))
    examples = [Example(str(i), turns, options=("red", "dark red")) for i in range(3)]
    written = ["It is dark red.", "B", "blue"]
    monkeypatch.setattr("fedmosaic.evaluation.evaluator.generate", lambda *_, **__: written)

    def score(**settings: Any) -> Score:
        return evaluate(backbone, backbone.model, examples, method="generation", **settings)

    assert (score().values, score().unreadable) == ((1.0, 1.0, 0.0), 1)
    release = score(reader="release")
    assert (release.values, release.unreadable) == ((0.0, 0.0, 0.0), 2)
