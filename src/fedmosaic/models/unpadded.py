"""Run a model on examples of different lengths in one row, without padding.

A third of a batch may be padding. Here all tokens of the examples are one row, in which attention
takes each example by itself. A model may have such batches if it gives the same numbers on a few
fixed texts (:mod:`fedmosaic.models.trial`).
"""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fedmosaic.models.backbone import Backbone
from fedmosaic.models.batch import Batch
from fedmosaic.models.encoding import IGNORE, Encoded
from fedmosaic.models.positions import positions
from fedmosaic.models.prefix import PrefixEncoder
from fedmosaic.models.row_attention import NAME, Examples
from fedmosaic.models.trial import ERRORS, fits_windows, tolerance, trial_items

_found: weakref.WeakKeyDictionary[Backbone, bool] = weakref.WeakKeyDictionary()
_too_long: weakref.WeakSet[Backbone] = weakref.WeakSet()


def unpadded(batch: Batch, items: Sequence[Encoded]) -> tuple[Batch, Tensor]:
    """Return a batch as one row without padding, and the columns of its labels that are learned.

    Args:
        batch: the examples, padded on the left.
        items: the examples.
    """
    mask = batch.host["attention_mask"]
    real = mask.flatten().nonzero()[:, 0]
    names = {"input_ids", "labels", *(name for item in items for name in item.by_token)}
    values = {name: batch.host[name].flatten()[real][None] for name in names}
    values["attention_mask"] = torch.ones_like(values["input_ids"])
    values["position_ids"] = positions(mask).flatten()[real][None]
    device = batch.input_ids.device
    there = {name: value.to(device) for name, value in values.items()}
    own = ("input_ids", "attention_mask", "labels")
    others = {name: value for name, value in batch.others.items() if name not in there}
    others |= {name: value for name, value in there.items() if name not in own}
    others["examples"] = Examples([len(item.input_ids) for item in items], device)
    learned = (values["labels"][0] != IGNORE) & (values["position_ids"][0] > 0)
    ids, ones, labels = (there[name] for name in own)
    return Batch(ids, ones, labels, others, batch.host | values), learned.nonzero()[:, 0]


@contextmanager
def row_attention(model: Any) -> Iterator[None]:
    """Let a model take batches of :func:`unpadded` inside the block.

    Args:
        model: a model of Transformers, without an adapter's wrapper.
    """
    config = model.config.get_text_config()
    before = config._attn_implementation
    config._attn_implementation = NAME
    try:
        yield
    finally:
        config._attn_implementation = before


def takes_unpadded(backbone: Backbone, items: Sequence[Encoded]) -> bool:
    """Return whether a model gives the same numbers for items without padding; say once if not."""
    if backbone not in _found:
        _found[backbone] = _takes_positions(backbone) and _same_numbers(backbone)
        if not _found[backbone]:
            _warn_of_padding(backbone, "cannot take examples as one row without padding")
    if not _found[backbone]:
        return False
    fits = fits_windows(backbone, items)
    if not fits and backbone not in _too_long:
        _too_long.add(backbone)
        _warn_of_padding(backbone, "attends to fewer tokens than some examples have")
    return fits


def _warn_of_padding(backbone: Backbone, reason: str) -> None:
    warnings.warn(
        f"model {backbone.name!r} {reason}, so train.together pads its batches: that takes more "
        "time, and the results are the same",
        stacklevel=3,
    )


def _takes_positions(backbone: Backbone) -> bool:
    return (
        "position_ids" in inspect.signature(type(backbone.model).forward).parameters
        and backbone.text_config._attn_implementation == "sdpa"
        and not isinstance(backbone.encoder, PrefixEncoder)
        and not hasattr(getattr(backbone.model, "model", backbone.model), "get_rope_index")
    )


def _same_numbers(backbone: Backbone) -> bool:
    """Return whether logits of fixed texts are the same."""
    items = trial_items(backbone, backbone.vision)
    batch = backbone.collate(items)
    row, _ = unpadded(batch, items)
    ends = torch.tensor([len(item.input_ids) for item in items]).cumsum(0) - 1
    try:
        with torch.no_grad():
            expected = backbone.logits(backbone.model, batch, batch.columns(-1, 0))[:, 0]
            with row_attention(backbone.model):
                found = backbone.logits(backbone.model, row, ends.to(backbone.device))[0]
    except ERRORS:
        return False
    most, scale = tolerance(backbone), float(expected.abs().max())
    return torch.allclose(found, expected, rtol=most, atol=most * scale)
