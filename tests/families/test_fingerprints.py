"""Test that a model's fingerprint tells apart what computes something else, in every family.

The default suite takes a sample; ``FEDMOSAIC_ALL_FAMILIES=1`` takes every family.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from fedmosaic.models.backbone import Backbone
from fedmosaic.models.fingerprint import fingerprint
from tests.families import LANGUAGE
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES
from tests.families.sample import sample
from tests.families.test_exact import SEEING
from tests.families.test_features import Folder, on_pixels

EVERY = [*SEEING, *LANGUAGE]
NAMES = sample(EVERY, "gemma4", "qwen3_vl", "gemma3n_text", "jamba", "gpt2")
CONFIGS = sample(EVERY, "gemma4_text", "smollm3", "vipllava")


@pytest.mark.parametrize("name", NAMES)
def test_two_loads_of_a_folder_have_one_fingerprint(
    folder_of: Folder, load: Load, name: str
) -> None:
    assert Backbone.load(str(folder_of(name))).fingerprint == load(name).fingerprint


@pytest.mark.parametrize("name", NAMES)
def test_every_stored_tensor_enters_the_fingerprint(folder_of: Folder, name: str) -> None:
    """Buffers are stored as well, such as the scales of Gemma 4's layers."""
    model = Backbone.load(str(folder_of(name)))
    last = copy_of(model).fingerprint
    changed = set()
    for key, value in model.model.state_dict().items():
        if value.data_ptr() in changed:  # tied to another
            continue
        changed.add(value.data_ptr())
        value.view(-1)[:1] += 1
        found = copy_of(model).fingerprint
        assert found != last, key
        last = found
    assert len(changed) > 10


def copy_of(model: Backbone) -> Backbone:
    """Return the same model in another object, which computes its fingerprint again."""
    return Backbone(model.name, model.model, model.tokenizer, model.processor)


def entries(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the paths of all numbers, texts and switches in a JSON object."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from entries(value[key], (*path, key))
    elif value is not None:
        yield path


OTHER_TEXTS = {
    "sliding_attention": "full_attention",
    "full_attention": "sliding_attention",
    "gelu": "relu",
    "relu": "gelu",
    "gelu_new": "relu",
    "silu": "gelu",
    "quick_gelu": "gelu",
    "gelu_pytorch_tanh": "relu",
}


def changed(stored: dict[str, Any], path: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return copies of a configuration in which one entry is another."""
    result = []
    for step in (1, -1):
        config = copy.deepcopy(stored)
        place: Any = config
        for key in path[:-1]:
            place = place[key]
        old = place[path[-1]]
        if isinstance(old, bool):
            place[path[-1]] = not old
        elif isinstance(old, int):
            place[path[-1]] = old + step
        elif isinstance(old, float):
            place[path[-1]] = old + step * max(0.1, old / 2)
        else:
            place[path[-1]] = OTHER_TEXTS.get(old, old)
        result.append(config)
    return result


def with_config(model: Backbone, config: Any) -> Any | None:
    """Return the same weights under another configuration; None if they do not fit it."""
    try:
        network = type(model.model)(config).eval()
        network.load_state_dict(model.model.state_dict())
    except Exception:
        return None
    return network


@torch.no_grad()
def computed(network: Any, inputs: dict[str, Any]) -> Tensor | None:
    """Return the logits; None if the network cannot run."""
    try:
        logits: Tensor = network(**inputs).logits
    except Exception:
        return None
    return logits


def of_network(model: Backbone, network: Any) -> str:
    """Return the fingerprint of a network with the tokenizer and processor of a model."""
    parts: Any = SimpleNamespace(
        model=network, tokenizer=model.tokenizer, processor=model.processor
    )
    return fingerprint(parts)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_setting_that_changes_the_logits_changes_the_fingerprint(
    folder_of: Folder, load: Load, name: str
) -> None:
    model, config = load(name), load(name).model.config
    case = "one image" if model.vision else "two turns"
    batch = model.collate([model.encode(EXAMPLES[case])])
    inputs = (on_pixels(model, case, batch) if model.vision else batch).inputs
    stored, _ = type(config).get_config_dict(folder_of(name))
    plain = computed(with_config(model, config), inputs)
    assert plain is not None
    seen, missing = 0, []
    for path in entries(stored):
        for content in changed(stored, path):
            try:
                other = type(config).from_dict(content)
            except Exception:  # the family has no such setting
                continue
            network = with_config(model, other)
            logits = computed(network, inputs)
            if logits is None or torch.equal(logits, plain):
                continue
            seen += 1
            if of_network(model, network) == model.fingerprint:
                missing.append(".".join(map(str, path)))
    assert not missing
    assert seen > 1
