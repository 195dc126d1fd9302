"""Compare the ids and the loss of items with those of plain Transformers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from fedmosaic.data.example import Example
from fedmosaic.errors import FedMosaicError
from fedmosaic.model_check.problems import collected
from fedmosaic.model_check.reference import own_ids, own_loss
from fedmosaic.model_check.report import CheckedItem, CheckedModel
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import IGNORE
from fedmosaic.training.loss import answer_loss

TOLERANCE = {torch.float64: 1e-5, torch.float32: 1e-4}
"""Largest difference of equal numbers, relative to their size, by dtype; else 0.05."""


def tolerance(backbone: Backbone) -> float:
    """Return the largest difference of numbers that count as equal, relative to their size."""
    quantised = getattr(backbone.model, "is_quantized", False)
    return 0.05 if quantised else TOLERANCE.get(backbone.dtype, 0.05)


def compare(
    backbone: Backbone,
    result: CheckedModel,
    needed: Sequence[Example],
    possible: Sequence[Example] = (),
) -> list[tuple[Example, CheckedItem]]:
    """Compare items with plain Transformers and add what is found to the result.

    Args:
        backbone: The model.
        result: What was found of it so far.
        needed: Items that the model must take.
        possible: Items that it may refuse, which is then noted.

    Returns:
        the items that could be encoded, with what the model sees of them.
    """
    found = []
    for example in (*needed, *possible):
        try:
            item = encode(backbone, example)
        except FedMosaicError as error:
            if example in needed:
                result.add_problem(str(error))
            elif str(error) not in result.problems:
                result.add_note(f"it takes no items of this kind: {example.id} ({error})")
            continue
        found.append((example, item))
        with collected(result, "comparing ids with plain transformers"):
            _compare_ids(backbone, example, item, result)
        if all(label == IGNORE for label in item.labels):
            result.add_problem(
                f"item {example.id!r}: no token of its answer is learned: give the item an answer, "
                "or the model a chat template that writes it"
            )
            continue
        with collected(result, "comparing the loss with plain transformers"):
            _compare_loss(backbone, example, result)
    return found


def encode(backbone: Backbone, example: Example) -> CheckedItem:
    """Encode an item.

    Raises:
        FedMosaicError: the model cannot take it.
    """
    encoded = backbone.encode(example)
    image, ids = backbone.image_token_id, list(encoded.input_ids)
    count = 0 if image is None else ids.count(image)
    return CheckedItem(example.id, ids, list(encoded.labels), count)


def _compare_ids(
    backbone: Backbone, example: Example, item: CheckedItem, result: CheckedModel
) -> None:
    theirs = own_ids(backbone, example)
    tokenizer = backbone.tokenizer
    if list(item.ids) == theirs:
        result.ids_equal = result.ids_equal is not False
    elif _end_added(tokenizer, item.ids, theirs):
        result.ids_equal = result.ids_equal is not False
        result.add_note(
            "the chat template writes no end after the last answer: "
            f"{tokenizer.eos_token} is added, so that the model learns to stop"
        )
    else:
        result.ids_equal = False
        result.add_problem(
            f"item {example.id!r}: its ids differ from those of the model's own "
            f"{'tokenizer' if backbone.processor is None else 'processor'} "
            f"{first_difference(tokenizer, item.ids, theirs)}. A server would give the model other "
            "tokens than it was trained on: correct the chat template (chat_template.jinja in its "
            "folder), or use another model"
        )


def _end_added(tokenizer: Any, ours: Sequence[int], theirs: Sequence[int]) -> bool:
    """Return whether ours has an end token where theirs has at most white space."""
    length = len(ours) - 1
    return (
        ours[-1] == tokenizer.eos_token_id
        and list(ours[:length]) == list(theirs[:length])
        and not tokenizer.decode(theirs[length:]).strip()
    )


def first_difference(tokenizer: Any, ours: Sequence[int], theirs: Sequence[int]) -> str:
    """Describe where two lists of ids first differ: the place, the text before it, both tokens."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    place = next((k for k, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    before = tokenizer.decode(theirs[max(0, place - 6) : place])
    after = f" after {before!r}" if before else ""
    return (
        f"at token {place}{after}: {_token(tokenizer, ours, place)} here, "
        f"{_token(tokenizer, theirs, place)} there ({len(ours)} and {len(theirs)} tokens in all)"
    )


def _token(tokenizer: Any, ids: Sequence[int], place: int) -> str:
    if place >= len(ids):
        return "nothing"
    return f"{tokenizer.decode([ids[place]])!r} (id {ids[place]})"


def _compare_loss(backbone: Backbone, example: Example, result: CheckedModel) -> None:
    batch = backbone.collate([backbone.encode(example)])
    with torch.no_grad():
        ours = float(answer_loss(backbone.model, backbone, batch))
    theirs = own_loss(backbone, example, batch)
    if not math.isfinite(theirs):
        dtype = str(backbone.dtype).removeprefix("torch.")
        narrow = f", or {dtype} is too narrow for it (--dtype float32)"
        result.add_problem(
            f"model {backbone.name!r}: its loss is not finite, in plain transformers too: its "
            "weights are damaged (copy or download them again)" + narrow * (dtype != "float32")
        )
        return
    difference = abs(ours - theirs)
    result.loss_difference = max(result.loss_difference or 0.0, difference)
    if not difference <= tolerance(backbone) * max(1.0, abs(theirs)):
        result.add_problem(
            f"item {example.id!r}: its loss is {ours:.6f} in training, but {theirs:.6f} in plain "
            "transformers: training would learn something else than the model computes. Use "
            "another model, or another version of transformers"
        )
