"""Run a model on examples of different lengths in one row, without padding.

A third of a batch may be padding. Here all tokens of the examples are one row, in which attention
takes each example by itself. A model may have such batches if it gives the same numbers on a few
fixed texts.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedmosaic.data.example import Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.batch import Batch
from fedmosaic.models.encoding import IGNORE, Encoded
from fedmosaic.models.positions import positions
from fedmosaic.models.prefix import PrefixEncoder
from fedmosaic.models.row_attention import NAME, Examples
from fedmosaic.models.row_layers import row_layers

TEXTS = (
    ("Name the capital of France.", "Paris"),
    ("What is the capital of a country that you know well? Answer in one word.", "Rome"),
    ("Is it raining?", "no"),
)
WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
"""Settings of models in which a token attends to the last tokens only."""

_found: weakref.WeakKeyDictionary[Backbone, bool] = weakref.WeakKeyDictionary()


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
        with row_layers(model):
            yield
    finally:
        config._attn_implementation = before


def takes_unpadded(backbone: Backbone) -> bool:
    """Return whether models of an architecture give the same numbers without padding."""
    if backbone not in _found:
        _found[backbone] = _takes_positions(backbone) and _same_numbers(backbone)
    return _found[backbone]


def fits_windows(backbone: Backbone, items: Sequence[Encoded]) -> bool:
    """Return whether examples are no longer than any window of the model's attention."""
    windows = [getattr(backbone.text_config, name, None) for name in WINDOWS]
    longest = max(len(item.input_ids) for item in items)
    return all(not isinstance(window, int) or longest <= window for window in windows)


def _takes_positions(backbone: Backbone) -> bool:
    return (
        "position_ids" in inspect.signature(type(backbone.model).forward).parameters
        and backbone.text_config._attn_implementation == "sdpa"
        and not isinstance(backbone.encoder, PrefixEncoder)
        and not hasattr(getattr(backbone.model, "model", backbone.model), "get_rope_index")
    )


def _same_numbers(backbone: Backbone) -> bool:
    """Return whether logits of fixed texts are the same."""
    picture = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3)
    examples = [
        Example(
            f"row {number}",
            (Turn("user", "<image>\n" * backbone.vision + question), Turn("assistant", answer)),
            (Image((picture * (7 + number) % 251).astype(np.uint8)),) * backbone.vision,
        )
        for number, (question, answer) in enumerate(TEXTS)
    ]
    items = [backbone.encode(example) for example in examples]
    batch = backbone.collate(items)
    row, _ = unpadded(batch, items)
    ends = torch.tensor([len(item.input_ids) for item in items]).cumsum(0) - 1
    try:
        with torch.no_grad():
            expected = backbone.logits(backbone.model, batch, batch.columns(-1, 0))[:, 0]
            with row_attention(backbone.model):
                found = backbone.logits(backbone.model, row, ends.to(backbone.device))[0]
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError):
        return False
    tolerance = max(1e-5, 8 * torch.finfo(backbone.dtype).eps)
    scale = float(expected.abs().max())
    return torch.allclose(found, expected, rtol=tolerance, atol=tolerance * scale)
