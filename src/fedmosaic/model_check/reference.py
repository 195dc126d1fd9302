"""Encode and run an item as plain Transformers does, with the model's own processor."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from fedmosaic.data.example import IMAGE_MARK, Example
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE
from fedmosaic.models.prefix import takes_suffix

_TYPES = ("token_type_ids", "mm_token_type_ids")


def own_ids(backbone: Backbone, example: Example) -> list[int]:
    """Return the ids that the model's own processor or tokenizer gives for an item.

    A model without a chat template has no ids of its own for a conversation: its processor or
    tokenizer then gets the text that is written for it here.
    """
    chat, processor = backbone.chat, backbone.processor
    if takes_suffix(chat, processor):
        out = _processed(backbone, example, _prefix(backbone, example), suffix=[example.answer])
        return _first_row(out["input_ids"])
    if processor is None:
        tokenizer = backbone.tokenizer
        if not chat.has_template:
            return list(tokenizer(chat.render(example.turns))["input_ids"])
        messages = chat.messages(example.turns)
        return list(tokenizer.apply_chat_template(messages, return_dict=False, **chat.clock))
    if not processor.chat_template:
        # As Transformers does where the template is the processor's.
        text, bos = chat.render(example.turns), backbone.tokenizer.bos_token
        special = not (bos and text.startswith(bos))
        return _first_row(
            _processed(backbone, example, text, add_special_tokens=special)["input_ids"]
        )
    pictures = [image.load() for image in example.images]
    out = processor.apply_chat_template(
        chat.messages(example.turns),
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
        processor_kwargs={"images": pictures} if pictures else {},
        **chat.clock,
    )
    return _first_row(out["input_ids"])


def own_loss(backbone: Backbone, example: Example, batch: Batch) -> float:
    """Return the loss of an item in a plain forward pass of Transformers, on its pixels.

    Args:
        backbone: The model.
        example: The item.
        batch: The item, encoded; its ids and labels are used.
    """
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if example.images:
        inputs |= _pixels(backbone, example, batch)
    with torch.no_grad():
        logits = backbone.model(**inputs, use_cache=False).logits[0, :-1].float()
    labels = batch.labels[0, 1:].to(logits.device)
    return float(cross_entropy(logits, labels, ignore_index=IGNORE))


def _pixels(backbone: Backbone, example: Example, batch: Batch) -> dict[str, Any]:
    """Return what the processor gives beside the ids; the types of tokens are those of our ids."""
    assert backbone.images is not None
    if takes_suffix(backbone.chat, backbone.processor):
        text = _prefix(backbone, example)
    else:
        text = backbone.chat.render(example.turns)
    out = _processed(backbone, example, text, add_special_tokens=False)
    found = {}
    for name, value in out.items():
        if name in ("input_ids", "attention_mask", "labels"):
            continue
        if name not in backbone.images.forward_names:
            continue
        if name in _TYPES:
            found[name] = batch.others[name]
            continue
        value = value.to(backbone.device)
        found[name] = value.to(backbone.images.dtype) if value.is_floating_point() else value
    return found


def _processed(backbone: Backbone, example: Example, text: str, **more: Any) -> Any:
    pictures = [image.load() for image in example.images]
    images = [pictures] if pictures else None
    return backbone.processor(  # type: ignore[misc]
        text=[text], images=images, return_tensors="pt", **more
    )


def _prefix(backbone: Backbone, example: Example) -> str:
    question = example.question.replace(IMAGE_MARK, "").strip()
    return str(backbone.chat.image_token) * len(example.images) + question


def _first_row(ids: Any) -> list[int]:
    return [int(token) for token in ids[0]]
