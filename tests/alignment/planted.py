"""Make twins: models that compute one function in other coordinates, with known alignment."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.adapters import CoLoraConfig, load_shared, write_state
from fedmosaic.adapters.placement import AdapterSite
from fedmosaic.models.backbone import Backbone

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Twin:
    """Hold a model that computes what the pivot computes.

    Attributes:
        backbone: the model.
        inputs: for each module the orthogonal T of x_twin = T x_pivot.
        outputs: for each module the orthogonal T of y_twin = T y_pivot.
    """

    backbone: Backbone
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


def fold_norms(model: Any, language: Any) -> None:
    """Move the scales of all RMS norms into the next linear layers, in place; untie the head."""
    head = model.get_output_embeddings()
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    pairs = [(language.norm, [head])]
    for layer in language.layers:
        attention, mlp = layer.self_attn, layer.mlp
        pairs.append(
            (layer.input_layernorm, [attention.q_proj, attention.k_proj, attention.v_proj])
        )
        pairs.append((layer.post_attention_layernorm, [mlp.gate_proj, mlp.up_proj]))
    for norm, linears in pairs:
        for linear in linears:
            linear.weight.data = linear.weight.data * norm.weight.data
        norm.weight.data = torch.ones_like(norm.weight.data)


def orthogonal(size: int, draw: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64)).Q


def make_twin(pivot: Backbone, identities: Sequence[int] = (), seed: int = 0) -> Twin:
    """Rotate the pivot's residual stream, rotate v and o in each head, permute MLP neurons.

    The pivot's norms must be folded.

    Args:
        pivot: the model.
        identities: indices in the *new* list of layers of layers that add nothing.
        seed: seed of the rotations.
    """
    draw = torch.Generator().manual_seed(seed)
    model = copy.deepcopy(pivot.model)
    language = model.model.language_model if pivot.vision else model.model
    text = model.config.get_text_config()
    rotation = orthogonal(text.hidden_size, draw)
    width = text.head_dim
    small = [orthogonal(width, draw) for _ in range(text.num_key_value_heads)]
    repeats = text.num_attention_heads // text.num_key_value_heads
    heads = torch.block_diag(*[one for one in small for _ in range(repeats)])
    values = torch.block_diag(*small)
    order = torch.eye(text.intermediate_size, dtype=torch.float64)[
        torch.randperm(text.intermediate_size, generator=draw)
    ]
    same_q, same_k = (
        torch.eye(count * width, dtype=torch.float64)
        for count in (text.num_attention_heads, len(small))
    )
    inputs = dict.fromkeys(("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"), rotation)
    inputs |= {"o_proj": heads, "down_proj": order}
    outputs = {
        "q_proj": same_q,
        "k_proj": same_k,
        "v_proj": values,
        "gate_proj": order,
        "up_proj": order,
    }
    outputs |= {"o_proj": rotation, "down_proj": rotation}

    def change(linear: Any, left: Tensor | None, right: Tensor | None) -> None:
        weight = linear.weight.data.double()
        weight = weight if left is None else left @ weight
        weight = weight if right is None else weight @ right.t()
        linear.weight.data = weight.to(linear.weight.dtype)
        if left is not None and getattr(linear, "bias", None) is not None:
            linear.bias.data = (left @ linear.bias.data.double()).to(linear.bias.dtype)

    for layer in language.layers:
        for name, module in layer.named_modules():
            if (short := name.rpartition(".")[2]) in MODULES:
                change(module, outputs[short], inputs[short])
    change(language.embed_tokens, None, rotation)
    change(model.get_output_embeddings(), None, rotation)
    if pivot.vision:
        change(model.model.multi_modal_projector.linear_2, rotation, None)
    layers = list(language.layers)
    for place in identities:
        idle = copy.deepcopy(layers[place - 1])
        idle.self_attn.o_proj.weight.data.zero_()
        idle.mlp.down_proj.weight.data.zero_()
        layers.insert(place, idle)
    for number, layer in enumerate(layers):
        layer.self_attn.layer_idx = number
    language.layers = nn.ModuleList(layers)
    for config in (language.config, text):
        config.num_hidden_layers = len(layers)
    twin = Backbone("twin", model.eval(), pivot.tokenizer, pivot.processor)
    return Twin(twin, inputs, outputs)


def true_pair(twin: Twin, site: AdapterSite, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the twin's A and B that correspond to the pivot's."""
    return a.double() @ twin.inputs[site.module].t(), twin.outputs[site.module] @ b.double()


def random_state(
    sites: Sequence[AdapterSite], rank: int, size: float, seed: int = 0
) -> dict[str, Tensor]:
    """Draw P and Q for all sites."""
    draw = torch.Generator().manual_seed(seed)
    state = {}
    for site in sites:
        state[f"{site.key}.P"] = size * torch.randn(rank, rank, generator=draw)
        state[f"{site.key}.Q"] = size * torch.randn(rank, generator=draw)
    return state


def adapted(
    backbone: Backbone, blocks: int, shared: Mapping[str, Tensor] | None, state: dict[str, Tensor]
) -> Any:
    """Add adapters with P, Q to the backbone, on A, B (None: its own random pair)."""
    from peft import get_peft_model

    rank = next(value.shape[0] for key, value in state.items() if key.endswith(".Q"))
    modules = {key.split(".")[2] for key in state}
    config = CoLoraConfig(
        r=rank,
        lora_alpha=rank,
        num_blocks=blocks,
        shared_scale="raw",
        gate="none",
        target_modules=modules,
    )
    model = get_peft_model(backbone.fork(), config, adapter_name="local").eval()
    if shared is not None:
        load_shared(model, shared)
    write_state(model, "local", state, partial=True)
    return model


def correlation(one: Tensor, two: Tensor) -> float:
    return float(
        torch.corrcoef(torch.stack((one.double().flatten(), two.double().flatten())))[0, 1]
    )
