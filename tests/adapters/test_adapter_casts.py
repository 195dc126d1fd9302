"""Test that a step on a model in half precision casts activations, but no tensor of an adapter."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import LlamaConfig, LlamaForCausalLM

from fedmosaic.adapters import CoLoraConfig, build_pair
from tiny_config import SIZES


class Casts(TorchDispatchMode):
    """Count casts of some tensors, and of any."""

    def __init__(self, watched: set[int]) -> None:
        super().__init__()
        self.watched, self.of_watched, self.of_any = watched, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default:
            self.of_any += 1
            self.of_watched += args[0].data_ptr() in self.watched
        return func(*args, **(kwargs or {}))


def test_adapters_of_a_model_in_half_precision_are_never_cast() -> None:
    base = LlamaForCausalLM(LlamaConfig(**SIZES)).to(torch.bfloat16)
    model: Any = build_pair(base, CoLoraConfig(r=4, num_blocks=1)).train()
    held = [
        tensor
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
        if "colora" in name
    ]
    assert len(held) > 20 and {tensor.dtype for tensor in held} == {torch.float32}
    ids = torch.arange(8)[None]

    def casts() -> Casts:
        with Casts({tensor.data_ptr() for tensor in held}) as found:
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
        return found

    plain = casts()
    assert plain.of_watched == 0 < plain.of_any
    with torch.autocast("cpu", torch.bfloat16):  # computes in the model's precision instead
        assert casts().of_watched > 0
