"""Test that every model reads an earlier answer that is not to be learned, and learns it not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedmosaic.data import Example, Turn, read_examples
from fedmosaic.evaluation.likelihood import choose_by_likelihood
from fedmosaic.models.encoding import IGNORE
from tests.families import FAMILIES, LANGUAGE, VISION
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES
from tests.families.sample import sample

NAMES = sample(
    [name for name in (*LANGUAGE, *VISION) if FAMILIES[name].template and name != "mllama"],
    *("llama", "gemma2", "qwen2", "llava_llama", "qwen2_vl"),
)
BOTH = EXAMPLES["two turns"]
LINE = """{"conversations": [{"from": "human", "value": "Name a bird."},
 {"from": "gpt", "value": "a heron", "loss": false}, {"from": "human", "value": "And a fish?"},
 {"from": "gpt", "value": "a carp", "loss": true}]}"""


def masked() -> Example:
    first, answer, *rest = BOTH.turns
    return replace(BOTH, turns=(first, replace(answer, learned=False), *rest))


@pytest.mark.parametrize("name", NAMES)
def test_labels_are_those_of_the_learned_answers(load: Load, tmp_path: Path, name: str) -> None:
    model = load(name)
    path = tmp_path / "masked.json"
    path.write_text(f"[{LINE}]")
    (example,) = read_examples(path)
    whole, found = model.encode(BOTH), model.encode(example)
    assert found.input_ids == whole.input_ids
    labels = [label for label in found.labels if label != IGNORE]
    assert labels == [label for label in model.encode_option(BOTH, "a carp").labels if label >= 0]
    decode = model.tokenizer.decode
    assert "carp" in decode(labels) and "heron" not in decode(labels)
    assert "heron" in decode([label for label in whole.labels if label != IGNORE])


@pytest.mark.parametrize("name", NAMES[:2])
@pytest.mark.parametrize("length", ["sum", "mean"])
def test_the_mask_of_an_earlier_answer_does_not_move_a_choice(
    load: Load, name: str, length: str
) -> None:
    model = load(name)
    spellings = ("The answer is a carp.", "The answer is a large blue whale.")
    asked = [
        replace(
            example,
            turns=(*example.turns[:-1], Turn("assistant", spellings[0])),
            options=("a carp", "a large blue whale"),
            choice=0,
            spellings=spellings,
        )
        for example in (BOTH, masked())
    ]
    chosen = choose_by_likelihood(model, model.model, asked, 4, length)
    assert chosen[0] == chosen[1]
