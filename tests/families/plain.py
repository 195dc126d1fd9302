"""Encode examples as a user of plain Transformers does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedmosaic.data import Example
from fedmosaic.models.backbone import Backbone
from tests.families.examples import messages


def own_ids(model: Backbone, example: Example) -> list[int] | None:
    """Return the ids that the model's processor or tokenizer gives; None: it has no template."""
    if not model.chat.has_template:
        return None
    if model.processor is None:
        return list(
            model.tokenizer.apply_chat_template(messages(example, parts=False), return_dict=False)
        )
    pictures = [image.load() for image in example.images]
    given = {"images": pictures} if pictures else {}
    out = model.processor.apply_chat_template(
        messages(example, parts=True),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs=given,
    )
    return [int(token) for token in out["input_ids"][0]]


def assert_own_ids(model: Backbone, example: Example, found: Sequence[int]) -> None:
    """Compare ids with the processor's own.

    Where the template writes no end, it is added in place of white space after the answer.
    """
    own, ids, end = own_ids(model, example), list(found), model.tokenizer.eos_token_id
    if own is not None and ids != own:
        assert ids[-1] == end != own[-1]
        assert ids[:-1] == own[: len(ids) - 1]
        assert not model.tokenizer.decode(own[len(ids) - 1 :]).strip()


def pixels(model: Backbone, example: Example, taken: dict[str, Any]) -> dict[str, Any]:
    """Return what the processor gives beside the ids; token types as long as our ids."""
    if not example.images:
        return {}
    pictures = [image.load() for image in example.images]
    if model.chat.has_template:
        text = model.chat.locate(example.turns, "x").text
    else:
        text = "<image>" * len(pictures) + "?"
    out = model.processor(
        text=[text], images=[pictures], add_special_tokens=False, return_tensors="pt"
    )
    found = {
        key: value
        for key, value in out.items()
        if key not in ("input_ids", "attention_mask", "labels", "num_patches")
    }
    types = ("token_type_ids", "mm_token_type_ids")
    return {key: taken.get(key) if key in types else value for key, value in found.items()}
