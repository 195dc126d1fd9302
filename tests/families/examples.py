"""Hold the examples that every family is tried on, and the same as messages of Transformers."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmosaic.data import Example, Image, Turn


def picture(seed: int, height: int, width: int) -> Image:
    draw = np.random.default_rng(seed)
    return Image(draw.integers(0, 255, (height, width, 3), dtype=np.uint8))


ONE, OTHER = picture(0, 40, 60), picture(1, 70, 30)
QUESTION, ANSWER = Turn("user", "Name a bird."), Turn("assistant", "a heron")
EXAMPLES = {
    "one image": Example(
        "one image",
        (Turn("user", "<image>\nWhat is it?"), Turn("assistant", "a red kite")),
        (ONE,),
    ),
    "two images": Example(
        "two images",
        (Turn("user", "<image><image>\nWhich is red?"), Turn("assistant", "the first")),
        (ONE, OTHER),
    ),
    "text": Example("text", (QUESTION, ANSWER)),
    "two turns": Example(
        "two turns", (QUESTION, ANSWER, Turn("user", "And a fish?"), Turn("assistant", "a carp"))
    ),
    "system turn": Example(
        "system turn", (Turn("system", "Answer in two words."), QUESTION, ANSWER)
    ),
}
# The example with a system turn, as a template without a system role writes it.
JOINED = Example("joined", (Turn("user", "Answer in two words.\n\nName a bird."), ANSWER))
WITH_IMAGES = ("one image", "two images")


def messages(example: Example, parts: bool) -> list[dict[str, Any]]:
    """Return the messages that a user of Transformers writes, in parts or as texts."""
    return [
        {"role": turn.role, "content": _parts(turn.text) if parts else turn.text}
        for turn in example.turns
    ]


def _parts(text: str) -> list[dict[str, str]]:
    images = [{"type": "image"}] * text.count("<image>")
    return [*images, {"type": "text", "text": text.replace("<image>", "").strip()}]
