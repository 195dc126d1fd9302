"""Compile the decoder layers of a model that is trained."""

from __future__ import annotations

import shutil
from collections.abc import Iterable

import torch
from torch import nn

from fedmosaic.errors import ModelError

VARIANTS = 64
"""Most graphs of one layer's code: kinds of layer, sets of adapters, with and without gradients."""


def compile_layers(name: str, layers: Iterable[nn.Module], backend: str = "inductor") -> None:
    """Let torch compile each layer when it first runs.

    Layers of one kind share a graph, and a graph takes batches of any size. Names of modules and
    parameters stay the same.

    Args:
        name: Name of the model, for the error.
        layers: The decoder layers.
        backend: Torch's name of the compiler.

    Raises:
        ModelError: there is no C++ compiler, which torch's own compiler needs.
    """
    if backend == "inductor" and not any(map(shutil.which, ("c++", "g++", "clang++", "cl"))):
        raise ModelError(
            f"model {name!r}: models.compile: true needs a C++ compiler such as g++: install one, "
            "or use models.compile: false"
        )
    torch._dynamo.config.recompile_limit = max(VARIANTS, torch._dynamo.config.recompile_limit)
    for layer in layers:
        layer.compile(backend=backend, dynamic=True)
