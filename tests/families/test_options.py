"""Test that options of a question are scored as plain Transformers does, and cheaply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmosaic.data import Example, Turn
from fedmosaic.evaluation.likelihood import choose_by_likelihood
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE
from tests.families import LANGUAGE, VISION
from tests.families.conftest import FolderOf, Load
from tests.families.examples import EXAMPLES
from tests.families.plain import pixels
from tests.families.sample import sample

REFUSED = ("mllama", "idefics2")
OPTIONS = ("a red kite", "a", "two herons", "b")
SEEING = sample([n for n in VISION if n not in REFUSED], "qwen2_vl", "gemma3", "smolvlm")
LANGUAGE_NAMES = sample(LANGUAGE, "gpt2", "qwen3", "gemma2")


def likelihood(model: Backbone, example: Example, option: str) -> float:
    """Return the log-probability of an option and of the end of its turn, on pixels."""
    answered = replace(example, turns=(*example.turns[:-1], Turn("assistant", option)))
    batch = model.collate([model.encode(answered)])
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    with torch.no_grad():
        logits = model.model(**inputs, **pixels(model, answered, batch.inputs)).logits[0, :-1]
    labels = batch.labels[0, 1:]
    return -float(cross_entropy(logits, labels, ignore_index=IGNORE, reduction="sum"))


@pytest.mark.parametrize("name", [*SEEING, *LANGUAGE_NAMES])
def test_the_likeliest_option_is_chosen(load: Load, name: str) -> None:
    model = load(name)
    case = "one image" if name in SEEING else "text"
    example = replace(EXAMPLES[case], options=OPTIONS)
    scores = [likelihood(model, example, option) for option in OPTIONS]
    chosen = choose_by_likelihood(model, model.model, [example], 2, "sum")
    assert scores[chosen[0]] > max(scores) - 1e-4


@pytest.mark.parametrize(
    "name", ["llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "smollm3", "phi3", "qwen2_vl"]
)
def test_options_of_one_token_take_one_forward_pass(
    load: Load, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Whatever the template writes after the end of the answer."""
    model, options = load(name), ("A", "C")
    example = replace(EXAMPLES["text"], options=options)
    tokens = [model.answer_ids(option) for option in options]
    assert all(len(found) == 1 for found in tokens)
    monkeypatch.setattr("fedmosaic.evaluation.plain_questions.log_likelihoods", None)
    (chosen,) = choose_by_likelihood(model, model.model, [example], 2, "sum")
    with torch.no_grad():
        batch = model.collate([model.encode(example, answer=False)])
        logits = model.model(**batch.inputs).logits[0, -1]
    assert chosen == int(logits[[found[0] for found in tokens]].argmax())


@pytest.mark.parametrize("name", SEEING)
def test_an_image_is_processed_once_for_all_options(
    folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    model = Backbone.load(str(folder_of(name)))
    kind, calls = type(model.processor.image_processor), []
    preprocess = kind.preprocess

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return preprocess(self, *args, **kwargs)

    monkeypatch.setattr(kind, "preprocess", counted)
    example = replace(EXAMPLES["one image"], options=OPTIONS)
    model.encode(example, answer=False)
    model.collate([model.encode_option(example, option) for option in OPTIONS])
    assert len(calls) <= 1  # none where every image has the same tokens and features are stored
