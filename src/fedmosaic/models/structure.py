"""Find the parts of a language model by its structure: decoder layers, final norm and head."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from fedmosaic.errors import ModelError

FINAL_NORMS = (
    *("norm", "final_layernorm", "final_layer_norm", "ln_f", "norm_f", "final_norm"),
    *("embedding_norm", "layer_norm", "out_norm", "layernorm"),
)
"""Names of the norm between the last decoder layer and the head, most common first."""

CROSS_ATTENTION = frozenset(("encoder_attn", "cross_attn", "crossattention", "EncDecAttention"))
"""Names of modules in decoder layers that attend to the output of an encoder."""


@dataclass(frozen=True)
class Structure:
    """Hold the parts of a language model, or of the language model in a vision-language model.

    Attributes:
        decoder: the module that embeds tokens and runs the decoder layers.
        layers: the decoder layers.
        layers_path: their path in the whole model, e.g. ``model.layers`` or ``transformer.h``.
        final_norm: the norm between the last layer and the head; None where there is none.
        final_norm_path: its path in the whole model; empty where there is none.
        head: the output head.
    """

    decoder: nn.Module
    layers: nn.ModuleList
    layers_path: str
    final_norm: nn.Module | None
    final_norm_path: str
    head: nn.Module


def find_structure(model: Any, name: str = "") -> Structure:
    """Find the decoder layers, the final norm and the head of a causal language model.

    Nothing is known by the model's type: the decoder is what ``get_decoder()`` returns, its layers
    are the longest list of modules in it, and the head is ``get_output_embeddings()``.

    Args:
        model: a causal language model or a vision-language model of Transformers, without adapters.
        name: its name, for errors; default: the name of its class.

    Raises:
        ModelError: an encoder-decoder model, a model with cross-attention, or one without decoder
            layers or head.
    """
    name = name or type(model).__name__
    _refuse_encoder_decoder(model, name)
    head = model.get_output_embeddings()
    if not isinstance(head, nn.Module):
        raise ModelError(
            f"model {name!r} ({type(model).__name__}) has no language-model head, so it cannot "
            "write answers: use the causal language model of its family"
        )
    decoder, layers, layers_path = find_layers(model, name)
    _refuse_cross_attention(layers, name)
    norm_path, norm = _final_norm(model.get_submodule(layers_path.rpartition(".")[0]))
    if norm is not None:
        norm_path = _join(layers_path.rpartition(".")[0], norm_path)
    return Structure(decoder, layers, layers_path, norm, norm_path, head)


def find_layers(model: Any, name: str = "") -> tuple[nn.Module, nn.ModuleList, str]:
    """Return the decoder, its layers and their path; arguments as of :func:`find_structure`.

    Raises:
        ModelError: the model has no list of decoder layers.
    """
    name = name or type(model).__name__
    decoder = model.get_decoder()
    paths = {id(module): path for path, module in model.named_modules()}
    found = _longest_list(decoder)
    if found is None or id(decoder) not in paths:
        raise ModelError(
            f"model {name!r} ({type(model).__name__}) has no list of decoder layers, so it is not "
            "known where adapters belong: use a causal language model or a vision-language model "
            "of transformers"
        )
    inner, layers = found
    return decoder, layers, _join(paths[id(decoder)], inner)


def _longest_list(decoder: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """Return path and list of the decoder layers: of the lists nearest to the root the longest.

    Lists of plain layers, such as the projections of Gemma 3n, are none of decoder layers.
    """
    found = [
        (path, module)
        for path, module in decoder.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module) > 0
        and all(any(True for _ in child.children()) for child in module)
    ]
    if not found:
        return None
    return min(found, key=lambda entry: (entry[0].count("."), -len(entry[1])))


def _final_norm(parent: nn.Module) -> tuple[str, nn.Module | None]:
    norms = dict(_norms(parent))
    for name in FINAL_NORMS:
        if name in norms:
            return name, norms[name]
    return "", None


def _norms(parent: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules directly below ``parent`` that are norms by the name of their class."""
    for name, module in parent.named_children():
        if "norm" in type(module).__name__.lower():
            yield name, module


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def _refuse_encoder_decoder(model: Any, name: str) -> None:
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(
            f"model {name!r} ({type(model).__name__}) is an encoder-decoder model: its answers are "
            "not the continuation of its prompt, on which training, evaluation and alignment rest. "
            "Use a decoder-only language model (Llama, Qwen, Gemma, GPT-2 …) or a vision-language "
            "model on such a one"
        )


def _refuse_cross_attention(layers: nn.ModuleList, name: str) -> None:
    for layer in layers:
        for child, _ in layer.named_children():
            if child in CROSS_ATTENTION:
                raise ModelError(
                    f"model {name!r} has decoder layers with cross-attention "
                    f"({type(layer).__name__}.{child}), which take an encoder's output beside the "
                    "prompt and do nothing without it. Use a model that puts image features among "
                    "the prompt's tokens (LLaVA, Qwen-VL, InternVL, Gemma 3 …), or a decoder-only "
                    "language model"
                )
