"""Test that conversations are written and found in whatever form a model's chat template takes."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from fedmosaic.data import Example, Image, Turn
from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.chat import ChatFormat
from fedmosaic.models.encoding import IGNORE, Encoder

NAME = "miniature/llama-8x96"
PICTURE = Image(np.zeros((60, 60, 3), dtype=np.uint8))
ASKED = Example(
    "kite", (Turn("user", "<image> what flies?"), Turn("assistant", "a kite")), (PICTURE,)
)
TURNS = Example(
    "birds",
    (
        *(Turn("user", "name a bird"), Turn("assistant", "heron")),
        *(Turn("user", "and a fish?"), Turn("assistant", "carp")),
    ),
)
SYSTEM = Example(
    "brief", (Turn("system", "be brief"), Turn("user", "name a bird"), Turn("assistant", "heron"))
)
START = "{% if add_generation_prompt %}<bot>{% endif %}"
TEXT = (
    "{% for m in messages %}<{{ m['role'] }}> {{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
PARTS = (
    "{% for m in messages %}<{{ m['role'] }}>{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<image>\n{% elif p['type'] == 'text' %}{{ p['text'] }}"
    "{% endif %}{% endfor %}</s>{% endfor %}" + START
)
# Images are picked first and texts second, as processors of LLaVA models do. Plain text has neither
# type, so that nothing of it is written, without an error.
SELECTED = (
    "{% for m in messages %}{{ m['role'] | upper }}: "
    "{% for p in m['content'] | selectattr('type', 'equalto', 'image') %}<image>\n{% endfor %}"
    "{% for p in m['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ p['text'] }} {% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
EITHER = (
    "{% for m in messages %}<{{ m['role'] }}>{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for p in m['content'] %}{{ '<image>' if p['type'] == 'image' else p['text'] }}"
    "{% endfor %}{% endif %}</s>{% endfor %}" + START
)
THINKING = (
    "{% for m in messages %}<{{ m['role'] }}>\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}</s>\n{% endfor %}{% if add_generation_prompt %}<assistant>\n{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + TEXT.partition("%}")[2]
)
IGNORES_SYSTEM = TEXT.replace("<{{ m['role'] }}>", "{% if m['role'] != 'system' %}<m>").replace(
    "</s>", "</s>{% endif %}"
)


@pytest.fixture(scope="module")
def model() -> Backbone:
    return Backbone.load(NAME)


def encoder(model: Backbone, template: str) -> Encoder:
    """Return an encoder of the model with another chat template, which its processor holds."""
    processor = copy.copy(model.processor)
    processor.chat_template = template
    return Encoder(ChatFormat("tiny", model.tokenizer, processor), model.tokenizer, model.images)


def written(encoder: Encoder, example: Example) -> tuple[str, str, list[str]]:
    """Return the tokens of an example and its labels, joined, and each run of labels."""
    tokenizer, encoded = encoder.tokenizer, encoder.encode(example)
    runs: list[list[int]] = [[]]
    for label in encoded.labels:
        if label != IGNORE:
            runs[-1].append(label)
        elif runs[-1]:
            runs.append([])
    texts = [tokenizer.decode(run).strip() for run in runs if run]
    return tokenizer.decode(encoded.input_ids), " ".join(texts), texts


@pytest.mark.parametrize("template", [TEXT, PARTS, SELECTED, EITHER, THINKING])
def test_the_question_the_image_and_the_answer_are_there(model: Backbone, template: str) -> None:
    text, learned, _ = written(encoder(model, template), ASKED)
    assert "what flies?" in text
    assert text.count("<image>") == model.images.tokens_per_image  # type: ignore[union-attr]
    assert learned.replace(" ", "") == "akite</s>"


@pytest.mark.parametrize("template", [TEXT, PARTS, SELECTED, EITHER, THINKING])
def test_every_turn_is_learned_and_ends_as_the_template_says(
    model: Backbone, template: str
) -> None:
    text, _, runs = written(encoder(model, template), TURNS)
    assert text.count("</s>") == (1 if template == SELECTED else 4)
    assert [run.replace("</s>", "").strip() for run in runs] == ["heron", "carp"]
    assert runs[-1].endswith("</s>")


def test_the_ids_are_those_of_the_processor(model: Backbone) -> None:
    """Compare with one tokenization of the whole text; pieces would be split otherwise."""
    own = encoder(model, SELECTED)
    processor = own.chat._writer
    message = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what flies?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a kite"}]},
    ]
    out = processor.apply_chat_template(
        message, tokenize=True, return_dict=True, processor_kwargs={"images": [PICTURE.load()]}
    )
    ids = list(own.encode(ASKED).input_ids)
    assert ids[-1] == model.tokenizer.eos_token_id  # the template writes none
    assert ids[:-1] == out["input_ids"][0][: len(ids) - 1]


def test_a_prompt_is_the_beginning_of_the_example(model: Backbone) -> None:
    """Go on where the model writes: after a thought that the template writes for it."""
    for template in (TEXT, PARTS, EITHER, THINKING):
        one = encoder(model, template)
        prompt, whole = one.encode(TURNS, answer=False).input_ids, one.encode(TURNS)
        assert whole.input_ids[: len(prompt)] == prompt, template
        assert all(label == IGNORE for label in whole.labels[:1]), template
        assert whole.labels[len(prompt)] != IGNORE and whole.labels[len(prompt) - 1] == IGNORE


@pytest.mark.parametrize("template", [NO_SYSTEM, IGNORES_SYSTEM])
def test_a_system_text_is_never_lost(model: Backbone, template: str) -> None:
    one = encoder(model, template)
    with pytest.warns(UserWarning, match="tiny has no system role"):
        text, learned, _ = written(one, SYSTEM)
    assert text.index("be brief") < text.index("name a bird") and "brief" not in learned
    text, learned, _ = written(encoder(model, TEXT), SYSTEM)
    assert "<system> be brief" in text and "brief" not in learned


def test_an_image_that_the_template_moves_is_told(model: Backbone) -> None:
    moved = Example("e", (Turn("user", "here <image> what?"), Turn("assistant", "a")), (PICTURE,))
    with pytest.warns(UserWarning, match="writes images at other places than their marks"):
        text, _, _ = written(encoder(model, SELECTED), moved)
    assert text.index("<image>") < text.index("here")
    text, _, _ = written(encoder(model, PARTS), moved)
    assert text.index("here") < text.index("<image>") < text.index("what?")


MISTAKES = {
    "{% for m in messages %}{{ m['role'] }": "chat template of tiny cannot be applied",
    "{{ raise_exception('this model wants tools') }}": "this model wants tools",
    "{{ messages[0]['role'] }}": "leaves out the text of a turn",
    TEXT.replace(
        "{{ m['content'] }}", "{{ m['content'] | replace('flies', 'swims') }}"
    ): "rewrites a turn of.*'kite'",
    TEXT.replace("in messages", "in messages[-2:]"): "leaves out or rewrites a turn of.*'birds'",
}


@pytest.mark.parametrize("template", MISTAKES)
def test_a_template_that_loses_something_is_refused(model: Backbone, template: str) -> None:
    def encode() -> None:
        one = encoder(model, template)
        one.encode(ASKED)
        one.encode(TURNS)

    with pytest.raises(ModelError, match=MISTAKES[template]):
        encode()


def test_an_image_token_in_the_words_of_a_turn_is_refused(model: Backbone) -> None:
    tokenizer: Any = copy.deepcopy(model.tokenizer)
    processor = copy.copy(model.processor)
    processor.image_token, processor.chat_template = "<pic>", TEXT
    one = Encoder(ChatFormat("tiny", tokenizer, processor), tokenizer, model.images)
    words = Example(
        "words", (Turn("user", "<image> what is <pic>?"), Turn("assistant", "a")), (PICTURE,)
    )
    with pytest.raises(ModelError, match=r"'words' has 1 images, but its text .* 2 times <pic>"):
        one.encode(words)


@pytest.mark.parametrize("mark", ["</s>", "<user>", "<bot>"])
@pytest.mark.parametrize("turn", [0, 1])
def test_a_mark_of_turns_in_the_words_of_a_turn_is_refused(
    model: Backbone, mark: str, turn: int
) -> None:
    """The model would see its turn end there, or another one begin."""
    turns = [Turn("user", "name a bird"), Turn("assistant", "heron")]
    turns[turn] = Turn(turns[turn].role, f"a heron {mark} and a carp")
    message = f"'marked': turn {turn} spells {mark}, which marks turns for {NAME}"
    with pytest.raises(DataError, match=message):
        model.encode(Example("marked", tuple(turns)))


def test_a_special_token_that_marks_no_turn_is_learned(model: Backbone) -> None:
    """Models write boxes and thoughts in special tokens, and templates empty thoughts."""
    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<box>", "<think>"]})
    tokenizer.chat_template = TEXT.replace("<{{", "<think>{{")
    one = Encoder(ChatFormat("tiny", tokenizer), tokenizer)
    example = Example("box", (Turn("user", "where?"), Turn("assistant", "<think> <box> left")))
    labels = set(one.encode(example).labels)
    assert labels.issuperset(tokenizer.convert_tokens_to_ids(["<box>", "<think>"]))


def test_without_a_template_special_tokens_are_the_tokenizers_own(model: Backbone) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = copy.deepcopy(model.tokenizer)
    tokenizer.chat_template = None
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<user> $A", special_tokens=[("<user>", tokenizer.convert_tokens_to_ids("<user>"))]
    )
    one = Encoder(ChatFormat("tiny", tokenizer), tokenizer)
    begin = tokenizer.convert_tokens_to_ids("<user>")
    assert one.encode(TURNS).input_ids[0] == begin
    assert one.encode(TURNS).input_ids.count(begin) == 1
    tokenizer.chat_template = TEXT
    ids = Encoder(ChatFormat("tiny", tokenizer), tokenizer).encode(TURNS).input_ids
    assert ids.count(begin) == 2  # those of the two questions alone
