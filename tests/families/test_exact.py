"""Test that every family is encoded, run and decoded as plain Transformers does it.

The default suite takes a sample; ``make test-families`` takes every family.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from fedmosaic.data import Example, Turn
from fedmosaic.evaluation.generation import generate
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE, Encoded, last_answer
from fedmosaic.models.feature_cache import FeatureCache
from fedmosaic.training.loss import answer_loss
from tests.families import LANGUAGE, VISION
from tests.families.conftest import FolderOf, Load
from tests.families.examples import EXAMPLES, JOINED, WITH_IMAGES
from tests.families.plain import assert_own_ids, pixels
from tests.families.sample import sample

REFUSED = {"mllama", "idefics2"}  # tests/families/test_refused.py
PLAIN = {"paligemma"}  # takes one question about images, and has no template
SEEING = [name for name in VISION if name not in REFUSED]
CASES = [
    pytest.param(name, case, id=f"{name}-{case}")
    for name in [
        *sample(
            SEEING,
            *("llava_llama", "llava_qwen2_siglip", "llava_onevision", "qwen2_vl", "qwen3_vl"),
            *("smolvlm", "internvl", "gemma3", "paligemma", "pixtral"),
        ),
        *sample(
            LANGUAGE,
            *("llama", "qwen3", "gemma2", "gemma3n_text", "phi3", "glm4", "gpt2", "gpt_oss"),
            *("hunyuan_v1_dense", "jamba", "opt"),
        ),
    ]
    for case in EXAMPLES
    if name in VISION or case not in WITH_IMAGES
    if name not in PLAIN or case in WITH_IMAGES
]
# Linear attention in chunks rounds differently when a text begins at another place of a chunk;
# Gemma 4 has logits of up to 30.
LOOSE = {"qwen3_next": 1e-3, "qwen3_5": 1e-3, "gemma4": 3e-5}
SHORT = {"phi4"}  # its positions depend on whether the longest text of a batch passes a threshold


@pytest.mark.parametrize(("name", "case"), CASES)
def test_ids_are_the_processors_own_and_labels_the_answers(
    load: Load, name: str, case: str
) -> None:
    model, example = load(name), EXAMPLES[case]
    encoded = model.encode(example)
    without_role = case == "system turn" and not model.chat._has_system_role
    assert_own_ids(model, JOINED if without_role else example, encoded.input_ids)
    labels = [label for label in encoded.labels if label != IGNORE]
    assert labels[-1] in model.stop_tokens
    text = model.tokenizer.decode(labels, skip_special_tokens=True)
    answers = "".join(turn.text for turn in example.turns if turn.role == "assistant")
    assert text.replace(" ", "") == answers.replace(" ", "")


def test_a_system_text_without_a_role_stands_before_the_question(folder_of: FolderOf) -> None:
    model = Backbone.load(str(folder_of("gemma2")))  # it warns of this once
    with pytest.warns(UserWarning, match="has no system role"):
        encoded = model.encode(EXAMPLES["system turn"])
    assert encoded.input_ids == model.encode(JOINED).input_ids


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_model_goes_on_where_the_answer_begins(load: Load, name: str, case: str) -> None:
    """The prompt of an evaluation is the beginning of what is learned, token for token."""
    model, example = load(name), EXAMPLES[case]
    prompt = model.encode(example, answer=False).input_ids
    encoded = model.encode(example)
    assert encoded.input_ids[: len(prompt)] == prompt
    assert last_answer(encoded.labels) == len(prompt)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_the_loss_is_that_of_plain_transformers(load: Load, name: str, case: str) -> None:
    """Compare with a forward pass on pixels, and with features computed a second time."""
    model, example = load(name), EXAMPLES[case]
    batch = model.collate([model.encode(example)])
    with torch.no_grad():
        ours = answer_loss(model.model, model, batch)
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        inputs |= pixels(model, example, batch.inputs)
        logits = model.model(**inputs).logits
    theirs = cross_entropy(logits[0, :-1], batch.labels[0, 1:], ignore_index=IGNORE)
    assert abs(float(ours - theirs)) < 1e-5
    if example.images:
        assert model.images is not None
        model.images.cache = FeatureCache()
        with torch.no_grad():
            recomputed = answer_loss(model.model, model, model.collate([model.encode(example)]))
        assert abs(float(ours - recomputed)) < 1e-6


@pytest.mark.parametrize(("name", "case"), CASES)
def test_padding_on_the_left_changes_no_logit(load: Load, name: str, case: str) -> None:
    model, example = load(name), EXAMPLES[case]
    encoded = model.encode(example)
    asked = Turn(
        "user", ("<image>" if name in PLAIN else "") + "Name a bird. " * (1 if name in SHORT else 4)
    )
    images = EXAMPLES["one image"].images if name in PLAIN else ()
    longer = model.encode(Example("longer", (asked, Turn("assistant", "a heron")), images))
    items = [
        encoded,
        replace(
            longer,
            input_ids=longer.input_ids + longer.input_ids[-1:] * 7,
            labels=longer.labels + longer.labels[-1:] * 7,
            by_token={k: v + v[-1:] * 7 for k, v in longer.by_token.items()},
        ),
    ]
    count = len(encoded.input_ids)
    with torch.no_grad():
        single = model.logits(model.model, model.collate([encoded]), count)[0]
        padded = model.logits(model.model, model.collate(items), count)[0]
    assert float((single - padded).abs().max()) < LOOSE.get(name, 1e-5)


@pytest.mark.parametrize(
    "name",
    sample(
        [*SEEING, *LANGUAGE],
        *("qwen2_vl", "qwen3_vl", "gemma3", "llava_onevision", "paligemma", "gpt2", "jamba"),
        *("gemma3n_text", "qwen3_next"),
    ),
)
def test_answers_are_generated_as_by_one_forward_pass_a_token(load: Load, name: str) -> None:
    model = load(name)
    cases = [case for case in EXAMPLES if name in VISION or case not in WITH_IMAGES]
    if name in PLAIN:
        cases = list(WITH_IMAGES)
    examples = [EXAMPLES[case] for case in cases]
    texts = generate(model, model.model, examples, max_new_tokens=4)
    for example, text in zip(examples, texts, strict=True):
        tokens: list[int] = []
        prompt = model.encode(example, answer=False)
        while len(tokens) < 4:
            batch = model.collate([continued(prompt, tokens, suffix=name in PLAIN)])
            with torch.no_grad():
                token = int(model.logits(model.model, batch)[0, -1].argmax())
            if token in model.stop_tokens:
                break
            tokens.append(token)
        assert text == model.tokenizer.decode(tokens, skip_special_tokens=True).strip()


def continued(prompt: Encoded, tokens: list[int], suffix: bool) -> Encoded:
    ids, labels = prompt.input_ids[:], prompt.labels[:]
    ids.extend(tokens)
    labels.extend([IGNORE] * len(tokens))
    types = {key: value[:] for key, value in prompt.by_token.items()}
    for value in types.values():
        value.extend([int(suffix)] * len(tokens))
    return replace(prompt, input_ids=ids, labels=labels, by_token=types)
