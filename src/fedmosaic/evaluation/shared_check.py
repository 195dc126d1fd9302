"""Decide which models and questions may share the tokens of prompts that begin alike.

A model may if it takes masks and positions, and gives the same numbers on a few fixed texts
(:mod:`fedmosaic.models.trial`).
"""

from __future__ import annotations

import inspect
import math
import warnings
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from fedmosaic.data.example import Example
from fedmosaic.evaluation.batches import PreparedModel
from fedmosaic.evaluation.plain_questions import log_likelihoods
from fedmosaic.evaluation.shared_questions import Asked, SharedTokens
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.encoding import Encoded
from fedmosaic.models.prefix import PrefixEncoder
from fedmosaic.models.trial import ERRORS, fits_windows, tolerance, trial_items

_found: weakref.WeakKeyDictionary[Backbone, dict[bool, bool]] = weakref.WeakKeyDictionary()


def may_share(backbone: Backbone, example: Example) -> bool:
    """Return whether models of an architecture may share tokens of a question.

    They may not where a sequence is longer than a window of the model's attention.
    """
    items = [backbone.encode_option(example, option) for option in example.spellings]
    return fits_windows(backbone, items) and _is_exact(backbone, bool(items[0].units))


def takes_trees(model: Any) -> bool:
    """Return whether a token's output depends on its own sequence alone, up to that token.

    It does not where adapters are weighed anew for each batch or sequence.
    """
    if isinstance(model, PreparedModel) or not isinstance(model, nn.Module):
        return False
    return not any(getattr(module, "mixes_tokens", False) for module in model.modules())


def _is_exact(backbone: Backbone, images: bool) -> bool:
    """Return whether the base model gives the same numbers with shared tokens; say once if not."""
    known = _found.setdefault(backbone, {})
    if images not in known:
        known[images] = _takes_trees(backbone) and _same_numbers(backbone, images)
        if not known[images]:
            warnings.warn(
                f"model {backbone.name!r} cannot share what {'images and ' * images}prompts have "
                "in common, so it evaluates each of them by itself, which is slower",
                stacklevel=2,
            )
    return known[images]


def _takes_trees(backbone: Backbone) -> bool:
    """Return whether the model takes a mask of every pair of tokens, and positions."""
    names = inspect.signature(type(backbone.model).forward).parameters
    return (
        {"position_ids", "attention_mask"} <= names.keys()
        and backbone.text_config._attn_implementation in ("sdpa", "eager")
        and not isinstance(backbone.encoder, PrefixEncoder)
        # GPT-Neo counts its window in columns of a batch, not in positions.
        and getattr(backbone.text_config, "window_size", None) is None
    )


def _same_numbers(backbone: Backbone, images: bool) -> bool:
    """Return whether log-likelihoods and logits of fixed texts are the same."""
    items = trial_items(backbone, images)
    expected = log_likelihoods(backbone, backbone.model, items)
    try:
        found = _scored_as_trees(backbone, items)
    except ERRORS:
        return False
    most = tolerance(backbone)
    return all(
        math.isclose(a, b, rel_tol=most, abs_tol=most) for a, b in zip(expected, found, strict=True)
    )


def _scored_as_trees(backbone: Backbone, items: Sequence[Encoded]) -> list[float]:
    """Return log-likelihoods of which the first token's is computed by logits of a few tokens."""
    every = [_also_last(Asked.labelled(item)) for item in items]
    ends = [replace(one, tokens=one.tokens[:2]) for one in every]
    logs, logits = (
        SharedTokens(backbone, asked, normalised, tokens=256).scores(backbone.model)
        for asked, normalised in ((every, True), (ends, False))
    )
    return [
        other + logit - other_logit + sum(following)
        for (_, other, *following), (logit, other_logit) in zip(logs, logits, strict=True)
    ]


def _also_last(asked: Asked) -> Asked:
    """Ask for the last token at the place of the first one, too."""
    first, *following = asked.tokens
    return replace(asked, tokens=(first, (first[0], asked.tokens[-1][1]), *following))
