"""Test that the tiny checkpoints are what plain transformers loads and runs.

The default suite takes a sample; ``make test-families`` takes every family.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    BatchFeature,
    PreTrainedModel,
    ProcessorMixin,
)

from tests.families import LANGUAGE, REFUSED, TORCHVISION, VISION, build
from tests.families.sample import sample
from tests.families.video import load_processor

SAMPLE = ("llava_llama", "qwen2_vl", "gemma3", "internvl", "llama", "gpt2")


def picture(width: int, height: int, shade: int = 0) -> Image.Image:
    gradient = Image.linear_gradient("L").resize((width, height))
    return Image.merge("RGB", (gradient, gradient.rotate(90), Image.new("L", gradient.size, shade)))


def turn(role: str, *parts: str | Image.Image) -> dict[str, object]:
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image", "image": part}
        for part in parts
    ]
    return {"role": role, "content": content}


ANSWER = turn("assistant", "red")
CONVERSATIONS = {
    "one picture": [turn("user", picture(60, 40), "What colour?"), ANSWER],
    "two pictures": [turn("user", picture(60, 40), picture(50, 120, 90), "Which is red?"), ANSWER],
    "text": [turn("user", "How many?"), ANSWER],
    "two turns": [
        *(turn("user", picture(90, 30), "What colour?"), ANSWER),
        *(turn("user", "And the other?"), turn("assistant", "blue")),
    ],
    "system turn": [
        turn("system", "Be brief."), turn("user", picture(30, 30), "What colour?"), ANSWER
    ],
}  # fmt: skip


def encode(processor: ProcessorMixin, conversation: list[dict[str, object]]) -> BatchFeature:
    """Encode a conversation as the processor itself does; PaliGemma has no chat template."""
    if processor.chat_template is not None:
        return processor.apply_chat_template(
            conversation, tokenize=True, return_dict=True, return_tensors="pt"
        )
    parts = [part for message in conversation for part in message["content"]]
    images = [part["image"] for part in parts if part["type"] == "image"]
    text = " ".join(part["text"] for part in parts if part["type"] == "text")
    return processor(
        images=[images], text=[processor.image_token * len(images) + text], return_tensors="pt"
    )


@torch.no_grad()
def logits(model: PreTrainedModel, batch: BatchFeature) -> torch.Tensor:
    return model(**batch).logits


@pytest.mark.parametrize("name", sample(VISION, *SAMPLE))
def test_a_vision_family_runs_in_plain_transformers(name: str, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(build(name, tmp_path)).eval()
    processor = load_processor(tmp_path)
    for case, conversation in CONVERSATIONS.items():
        if case == "text" and processor.chat_template is None:
            continue  # PaliGemma takes no text without a picture
        result = logits(model, encode(processor, conversation))
        assert result.isfinite().all(), case
        assert result.std() > 0.1, case


@pytest.mark.parametrize("name", sample(VISION, *SAMPLE))
def test_the_picture_changes_what_a_vision_family_answers(name: str, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(build(name, tmp_path)).eval()
    processor = load_processor(tmp_path)
    dark, light = (
        logits(
            model,
            encode(processor, [turn("user", picture(60, 40, shade), "What colour?"), ANSWER]),
        )[:, -1]
        for shade in (0, 250)
    )
    assert (dark - light).abs().max() > 0.01


@pytest.mark.parametrize("name", sample(LANGUAGE, *SAMPLE))
def test_a_language_family_runs_in_plain_transformers(name: str, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(build(name, tmp_path)).eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer("What colour is the square? red", return_tensors="pt")
    result = logits(model, batch)
    assert result.isfinite().all()
    assert result.std() > 0.1
    assert len(tokenizer) <= result.shape[-1]
    if tokenizer.chat_template is not None:
        turns = [("user", "What colour?"), ("assistant", "red"), ("user", "And?")]
        messages = [{"role": role, "content": text} for role, text in turns]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False)
        assert all(text in prompt for _, text in turns)


@pytest.mark.parametrize("name", sample((*VISION, *TORCHVISION, *LANGUAGE, *REFUSED), *SAMPLE))
def test_a_folder_is_the_same_every_time(name: str, tmp_path: Path) -> None:
    first = build(name, tmp_path / "a")
    torch.rand(3)  # what was drawn before must not matter
    second = build(name, tmp_path / "b")
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes(), path.name
