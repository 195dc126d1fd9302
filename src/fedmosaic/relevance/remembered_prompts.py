"""Remember on disk the features of prompts, so that an answer need not wait for them anew.

An entry holds for the content of the model, the settings of features, the device and precision that
they were computed with, and the content of all prompts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from fedmosaic.data.digests import digest_items
from fedmosaic.data.example import Example
from fedmosaic.files import cache_root, write_to_cache
from fedmosaic.relevance.prompt_features import MOST_MEDIANS, PromptFeatures

MOST_FILES = 64
"""Of more files the one that was used least recently is removed."""

_NAME = "features"


@contextmanager
def remembered(features: PromptFeatures, examples: Sequence[Example]) -> Iterator[bool]:
    """Take the features of some examples from the cache; if they are not there, add them after it.

    Args:
        features: computes them.
        examples: the examples, all of whose features are computed inside the ``with`` block.

    Yields:
        whether they were in the cache.
    """
    entry = _entry(features, examples)
    found = _read(entry, (len(examples), features.size))
    if found is not None:
        features.take(examples, found)
    yield found is not None
    if found is None and examples:
        write_to_cache(entry, save({_NAME: features(examples)}), MOST_FILES)


def _read(entry: Path, shape: tuple[int, int]) -> Tensor | None:
    """Return the features of an entry; None without it, and where it is damaged."""
    try:
        found = load(entry.read_bytes())[_NAME]
        os.utime(entry)
    except (OSError, SafetensorError, KeyError):
        return None
    return found if found.shape == shape else None


def _entry(features: PromptFeatures, examples: Sequence[Example]) -> Path:
    """Return the file of the cache for the features of some examples."""
    backbone = features.backbone
    about = [
        backbone.fingerprint,
        str(backbone.dtype),
        backbone.device.type,
        features.features,
        features.layer,
        features.normed,
        MOST_MEDIANS,
    ]
    digest = hashlib.blake2b(json.dumps(about).encode(), digest_size=16)
    digests = digest_items("", tuple(examples))
    assert digests is not None, "they are a tuple"
    digest.update(digests.parts.tobytes())
    return cache_root() / "prompts" / f"{digest.hexdigest()}.safetensors"
