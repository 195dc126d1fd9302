"""Test the signatures of every family, on its own items, against the plain gradient of the loss.

The default suite takes a sample; ``make test-families`` takes every family.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.pytorch_utils import Conv1D

from fedmosaic.data import Example, Turn
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.batch import Batch
from fedmosaic.models.encoding import IGNORE
from fedmosaic.relevance import signature_kind, signature_model
from tests.families import LANGUAGE, VISION
from tests.families.conftest import Load
from tests.families.examples import EXAMPLES, OTHER
from tests.families.sample import sample

# Refused as a whole: image features cannot be computed beforehand, or are not found in the text.
REFUSED = {"mllama", "idefics2"}
CLOSED = {
    *(name for name in VISION if name not in REFUSED),
    *("llama", "mistral", "qwen2", "qwen3", "gemma", "phi", "phi3", "phi4", "smollm3", "cohere"),
    *("cohere2", "glm", "hunyuan_v1_dense", "stablelm", "starcoder2", "gpt2", "gpt_neox", "falcon"),
    *("falcon_alibi", "opt", "bloom", "lfm2", "xglm", "mpt"),
} - {"gemma3", "aya_vision", "gemma4", "glm4v", "aria"}
"""Families whose last layer ends plainly; the signatures of all others are by autograd."""
NAMES = [name for name in (*VISION, *LANGUAGE) if name not in REFUSED]


def examples(name: str) -> list[Example]:
    """Return two examples of different lengths, with images where the family takes them."""
    if name not in VISION:
        return [EXAMPLES["text"], EXAMPLES["two turns"]]
    question, answer = Turn("user", "<image> What is it?"), Turn("assistant", "two cats and a dog")
    return [EXAMPLES["one image"], Example("other image", (question, answer), (OTHER,))]


def plain_gradient(model: Backbone, batch: Batch, path: str) -> Tensor:
    """Return the gradient of the mean loss on answers by the weight at ``path``, [d, d_ff]."""
    module: Any = model.model.get_submodule(path)
    module.weight.requires_grad_(True)
    logits = model.model(**batch.inputs, use_cache=False).logits
    found = (logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten())
    (gradient,) = torch.autograd.grad(cross_entropy(*found, ignore_index=IGNORE), module.weight)
    module.weight.requires_grad_(False)
    return gradient.T if isinstance(module, Conv1D) else gradient


@pytest.mark.parametrize(
    "name",
    sample(
        NAMES,
        *("llava_onevision", "qwen3_vl", "smolvlm", "internvl", "gemma3", "paligemma", "gemma4"),
        *("llama", "gemma3n_text", "glm4", "gpt_oss", "deepseek_v3", "gpt2", "jamba", "qwen3_next"),
    ),
)
def test_a_signature_is_the_plain_gradient(load: Load, name: str) -> None:
    shared = load(name)
    data = shared.collate([shared.encode(example) for example in examples(name)])
    kind, model = signature_kind(shared), signature_model(shared, keep=0.4, seed=5)
    assert kind.method == model.method == ("closed form" if name in CLOSED else "autograd")
    assert kind.layer == model.layer.path
    expected = plain_gradient(shared, data, model.layer.path)[model.rows].flatten()
    assert float((model.gradient(data) - expected).norm() / expected.norm()) < 1e-5
