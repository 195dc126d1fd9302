"""A conversation as token ids, with labels on what the assistant says."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.data.example import IMAGE_MARK, Example, Image, Turn
from fedmosaic.errors import ModelError

IGNORE = -100

PLAIN_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}USER: {{ message['content'] }}\n"
    "{% else %}ASSISTANT: {{ message['content'] }}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
)


@dataclass(frozen=True)
class Encoded:
    """One example for one model.

    Attributes:
        input_ids: token ids, each image already widened to its number of tokens.
        labels: the same ids where the assistant speaks (its end-of-turn token included), -100 elsewhere.
        images: the pictures, in the order of their tokens.

    Ids and labels are arrays of C integers: a run keeps every example it met, and lists would take several times the memory.
    """

    input_ids: array[int]
    labels: array[int]
    images: tuple[Image, ...]


def encode(
    example: Example, tokenizer: Any, image_token: str | None, image_tokens: int, answer: bool
) -> Encoded:
    """Apply the model's chat template (a plain one where it has none) and tokenize turn by turn.

    Args:
        answer: with the final answer and labels for every assistant turn; without, the prompt up to where the answer begins.

    Raises:
        ModelError: the example has images and the model takes none, or the template rewrites earlier turns.
    """
    ids: list[int] = []
    labels: list[int] = []
    for piece in pieces(example, tokenizer, image_token, image_tokens):
        part = _ids(tokenizer, piece.text)
        if not piece.spoken:
            ids += part
            labels += [IGNORE] * len(part)
            if piece.last and not answer:
                break
            continue
        spoken = _spoken(part, tokenizer.eos_token_id)
        part = spoken if piece.last else spoken + part[len(spoken) :]
        ids += part
        labels += spoken + [IGNORE] * (len(part) - len(spoken))
    return Encoded(array("i", ids), array("i", labels), example.images)


@dataclass(frozen=True)
class Piece:
    """A stretch of a rendered conversation that is tokenized by itself.

    Attributes:
        text: as the chat template writes it.
        turn: index of the assistant's turn that it leads up to or is.
        spoken: whether it is that turn (and what the template writes after it) or all before it since the turn before.
        last: whether that turn is the example's last.
    """

    text: str
    turn: int
    spoken: bool
    last: bool


def pieces(
    example: Example, tokenizer: Any, image_token: str | None, image_tokens: int
) -> Iterator[Piece]:
    """The pieces of an example, alternately what is asked and what is spoken; joined they are the whole rendered text.

    Raises:
        ModelError: as :func:`encode`.
    """
    turns = widened(example, image_token, image_tokens)
    done = ""
    for index, turn in enumerate(turns):
        if turn.role != "assistant":
            continue
        last = index == len(turns) - 1
        prompt = render(tokenizer, turns[:index], generation=True)
        _only_appended(prompt, done)
        yield Piece(prompt[len(done) :], index, False, last)
        whole = render(tokenizer, turns[: index + 1], generation=False)
        _only_appended(whole, prompt)
        yield Piece(whole[len(prompt) :], index, True, last)
        done = whole


def widened(example: Example, image_token: str | None, image_tokens: int) -> list[Turn]:
    """The turns with every image mark replaced by as many image tokens as the model takes an image to be.

    Raises:
        ModelError: the example has images and the model takes none.
    """
    if example.images and image_token is None:
        raise ModelError(f"example {example.id!r} has images, but the model takes text only")
    return [
        Turn(turn.role, turn.text.replace(IMAGE_MARK, (image_token or "") * image_tokens))
        for turn in example.turns
    ]


def _only_appended(text: str, before: str) -> None:
    if not text.startswith(before):
        raise ModelError(
            "the tokenizer's chat template rewrites earlier turns; give the model a template that only appends"
        )


def answer_ids(tokenizer: Any, question: str, text: str) -> list[int]:
    """Token ids of ``text`` as the assistant's answer to ``question``, without the end-of-turn token."""
    turns = [Turn("user", question), Turn("assistant", text)]
    prompt = render(tokenizer, turns[:1], generation=True)
    whole = render(tokenizer, turns, generation=False)
    spoken = _spoken(_ids(tokenizer, whole[len(prompt) :]), tokenizer.eos_token_id)
    return spoken[:-1]


def _spoken(ids: list[int], eos: int) -> list[int]:
    """``ids`` up to and with the first end-of-turn token, which is added where the template writes none."""
    return ids[: ids.index(eos) + 1] if eos in ids else [*ids, eos]


def render(tokenizer: Any, turns: Sequence[Turn], generation: bool) -> str:
    """The conversation as its tokenizer's chat template writes it.

    Templates want a user to begin: before a text alone, which is an assistant's turn, the user says nothing.
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
