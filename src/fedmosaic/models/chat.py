"""Encode a conversation as token ids, with labels on the assistant's turns."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.data.example import IMAGE_MARK, Example, Image, Turn
from fedmosaic.errors import ModelError

IGNORE = -100

PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}USER: {{ message['content'] }}\n"
    "{% else %}ASSISTANT: {{ message['content'] }}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


@dataclass(frozen=True)
class Encoded:
    """Hold one example as encoded for one model.

    Ids and labels are arrays of C integers: a run caches every example it encodes, and lists would
    take several times the memory.

    Attributes:
        input_ids: Token ids, with each image expanded to its number of tokens.
        labels: The same ids in the assistant's turns (their end-of-turn tokens included), -100
            elsewhere.
        images: The images, in the order of their tokens.
    """

    input_ids: array[int]
    labels: array[int]
    images: tuple[Image, ...]


def encode(
    example: Example, tokenizer: Any, image_token: str | None, image_tokens: int, answer: bool
) -> Encoded:
    """Apply the model's chat template and tokenize turn by turn.

    Args:
        example: The conversation.
        tokenizer: A Hugging Face tokenizer; ``PLAIN_TEMPLATE`` is used where it has no template.
        image_token: The token that stands for one place of an image; None for a text-only model.
        image_tokens: Number of these tokens per image.
        answer: Encode the final answer and label every assistant turn. False: encode only the
            prompt of the final answer.

    Raises:
        ModelError: the example has images and the model takes none, or the template rewrites
            earlier turns.
    """
    ids: list[int] = []
    labels: list[int] = []
    for segment in split_segments(example, tokenizer, image_token, image_tokens):
        part = _ids(tokenizer, segment.text)
        if not segment.is_answer:
            ids += part
            labels += [IGNORE] * len(part)
            if segment.is_last and not answer:
                break
            continue
        labelled = _through_end_token(part, tokenizer.eos_token_id)
        part = labelled if segment.is_last else labelled + part[len(labelled) :]
        ids += part
        labels += labelled + [IGNORE] * (len(part) - len(labelled))
    return Encoded(array("i", ids), array("i", labels), example.images)


@dataclass(frozen=True)
class Segment:
    """Hold a part of a rendered conversation that is tokenized by itself.

    Attributes:
        text: The text as the chat template writes it.
        turn: Index of the assistant's turn that the segment is, or leads up to.
        is_answer: True for the assistant's turn and the template's text after it; False for
            everything between the previous assistant's turn and this one.
        is_last: The turn is the last one of the example.
    """

    text: str
    turn: int
    is_answer: bool
    is_last: bool


def split_segments(
    example: Example, tokenizer: Any, image_token: str | None, image_tokens: int
) -> Iterator[Segment]:
    """Yield the segments of an example: prompt, answer, prompt, answer and so on.

    Joined they are the whole rendered text.

    Raises:
        ModelError: as :func:`encode`.
    """
    turns = expand_images(example, image_token, image_tokens)
    done = ""
    for index, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        last = index == len(turns) - 1
        prompt = render(tokenizer, turns[:index], generation=True)
        _check_appended(prompt, done)
        yield Segment(prompt[len(done) :], index, False, last)
        whole = render(tokenizer, turns[: index + 1], generation=False)
        _check_appended(whole, prompt)
        yield Segment(whole[len(prompt) :], index, True, last)
        done = whole


def expand_images(example: Example, image_token: str | None, image_tokens: int) -> list[Turn]:
    """Return the turns with every image mark replaced by the model's image tokens.

    Raises:
        ModelError: the example has images and the model takes none.
    """
    if example.images and image_token is None:
        raise ModelError(
            f"example {example.id!r} has images, but the model takes text only: use a "
            "vision-language model"
        )
    return [
        Turn(turn.role, turn.text.replace(IMAGE_MARK, (image_token or "") * image_tokens))
        for turn in example.turns
    ]


def _check_appended(text: str, before: str) -> None:
    if not text.startswith(before):
        raise ModelError(
            "the tokenizer's chat template rewrites earlier turns; give the model a template that "
            "only appends"
        )


def answer_ids(tokenizer: Any, question: str, text: str) -> list[int]:
    """Return the ids of ``text`` as an answer to ``question``, without the end-of-turn token."""
    turns = [Turn("user", question), Turn("assistant", text)]
    prompt = render(tokenizer, turns[:1], generation=True)
    whole = render(tokenizer, turns, generation=False)
    ids = _ids(tokenizer, whole[len(prompt) :])
    return _through_end_token(ids, tokenizer.eos_token_id)[:-1]


def _through_end_token(ids: list[int], eos: int) -> list[int]:
    """Return ``ids`` through the first end-of-turn token, which is added if missing."""
    return ids[: ids.index(eos) + 1] if eos in ids else [*ids, eos]


def render(tokenizer: Any, turns: Sequence[Turn], generation: bool) -> str:
    """Render a conversation by its tokenizer's chat template.

    Templates expect a user's turn first. An empty one is put before a conversation that begins with
    the assistant.

    Args:
        tokenizer: A Hugging Face tokenizer.
        turns: The turns so far.
        generation: Also write the beginning of the next assistant's turn.
    """
    if not turns or turns[0].role == "assistant":
        turns = [Turn("user", ""), *turns]
    messages = [{"role": turn.role, "content": turn.text} for turn in turns]
    template = None if tokenizer.chat_template else PLAIN_TEMPLATE
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=generation, chat_template=template
    )
    return str(text)


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
