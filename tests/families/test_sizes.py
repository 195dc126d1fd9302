"""Test that images of any size and number are encoded and run as plain Transformers does it."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmosaic.data import Example, Turn
from fedmosaic.models.encoding import IGNORE
from fedmosaic.training.loss import answer_loss
from tests.families import VISION
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES, picture
from tests.families.plain import assert_own_ids, pixels
from tests.families.sample import sample

SIZES = ((16, 16), (12, 90), (130, 20), (64, 64), (97, 101))  # height, width; odd and extreme ones
LOOSE = {"qwen3_5": 1e-4}  # linear attention in chunks rounds differently after padding
NAMES = sample(
    [name for name in VISION if name not in ("mllama", "idefics2")],
    *("llava_next", "llava_onevision", "qwen2_vl", "smolvlm", "internvl", "pixtral"),
)


def asking(*sizes: tuple[int, int]) -> Example:
    pictures = tuple(picture(5 + k, height, width) for k, (height, width) in enumerate(sizes))
    question = Turn("user", "<image>" * len(sizes) + "\nWhich is red?")
    return Example("sizes", (question, Turn("assistant", "the last")), pictures)


@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_any_size_gives_the_processors_ids_and_the_plain_loss(
    load: Load, name: str
) -> None:
    model = load(name)
    for example in (*(asking(size) for size in SIZES), asking(*SIZES[:3])):
        encoded = model.encode(example)
        assert_own_ids(model, example, encoded.input_ids)
        batch = model.collate([encoded])
        with torch.no_grad():
            ours = answer_loss(model.model, model, batch)
            inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            logits = model.model(**inputs, **pixels(model, example, batch.inputs)).logits
        theirs = cross_entropy(logits[0, :-1], batch.labels[0, 1:], ignore_index=IGNORE)
        assert abs(float(ours - theirs)) < 1e-5


@pytest.mark.parametrize("name", [name for name in NAMES if name != "paligemma"])
def test_items_with_one_several_and_no_images_share_a_batch(load: Load, name: str) -> None:
    model = load(name)
    items = [
        model.encode(example)
        for example in (asking(*SIZES[1:3]), EXAMPLES["text"], asking(SIZES[4]))
    ]
    with torch.no_grad():
        together = model.logits(model.model, model.collate(items), 2)
        for row, item in enumerate(items):
            single = model.logits(model.model, model.collate([item]), 2)[0]
            assert float((together[row] - single).abs().max()) < LOOSE.get(name, 1e-5)
