"""Find the linear modules of the decoder layers and name each by its role.

Roles have the names of the Llama family, whatever a model calls its modules, so that models of
different families have the same sites. A fused projection has a role of its own. A module without
such a role keeps its own name.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from fedmosaic.errors import ModelError
from fedmosaic.models.expert_names import names_of_experts
from fedmosaic.models.linear import widths
from fedmosaic.models.role_names import Excluded, Place, RoleName
from fedmosaic.models.structure import find_layers

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Roles of the linear modules of a decoder layer of the Llama and Qwen families."""

FUSED = ("qkv_proj", "gate_up_proj")
"""Roles of several of these projections in one module."""

ATTENTION_NAMES = {
    "q_proj": ("q", "wq", "query", "q_lin"),
    "k_proj": ("k", "wk", "key", "k_lin"),
    "v_proj": ("v", "wv", "value", "v_lin"),
    "qkv_proj": ("qkv", "wqkv", "w_pack", "query_key_value", "c_attn", "in_proj"),
    "o_proj": ("o", "wo", "out_proj", "dense", "c_proj", "out_lin", "output"),
}
MLP_NAMES = {
    "gate_proj": ("w1", "gate", "linear_1"),
    "up_proj": ("w3", "up", "fc1", "fc_in", "c_fc", "dense_h_to_4h", "linear_v"),
    "gate_up_proj": ("input_linear",),
    "down_proj": ("w2", "down", "fc2", "fc_out", "c_proj", "dense_4h_to_h", "output_linear"),
}
"""Other names of each role. They count only where the module's shape fits the role."""

_ATTENTION = re.compile(r"attn|attention")
_MLP = re.compile(r"mlp|ffn|feed_?forward|moe|mixer|expert")
_MIXER = re.compile(r"lstm|rnn|recurrent|temporal|retention|ssm|mixer")


@dataclass(frozen=True)
class RoleModule(RoleName):
    """Hold one linear module of a decoder layer.

    Attributes:
        module: the module itself.
    """

    module: nn.Module


def find_roles(
    layers: Iterable[nn.Module], width: int, model_type: str = ""
) -> list[list[RoleModule]]:
    """Find the linear modules of each decoder layer, in the order of the model.

    Args:
        layers: the decoder layers.
        width: of the hidden states.
        model_type: of the whole model.

    Returns:
        the modules of each layer. A module that several layers share belongs to the first.
    """
    seen: set[int] = set()
    experts = names_of_experts(model_type)
    found = []
    for number, layer in enumerate(layers):
        modules = []
        for path, module in _linears(layer):
            if id(module) not in seen:
                seen.add(id(module))
                modules.append(_classified(number, layer, path, module, experts))
        found.append(_named_apart(_with_roles(modules, width)))
    return found


def roles_by_path(model: Any) -> dict[str, RoleModule]:
    """Return the linear modules of the decoder layers of a model by their path in it.

    Args:
        model: a model of Transformers, with or without adapters, but not inside a ``PeftModel``.

    Returns:
        the modules; none for a model without the structure of a language model.
    """
    if not isinstance(model, PreTrainedModel):
        return {}
    try:
        _, layers, layers_path = find_layers(model)
    except ModelError:
        return {}
    return {
        f"{layers_path}.{module.layer}.{module.path}": module
        for layer in find_roles(
            layers, int(model.config.get_text_config().hidden_size), model.config.model_type
        )
        for module in layer
    }


def suffixes(modules: Iterable[RoleModule]) -> set[str]:
    """Return names for PEFT's ``target_modules`` that select the modules adapted by default.

    A module's last name is enough where all modules of that name are adapted.
    """
    found = list(modules)
    others = {module.leaf for module in found if not module.by_default and not module.excluded}
    return {
        module.path if module.leaf in others else module.leaf
        for module in found
        if module.by_default
    }


def _linears(layer: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield the linear modules below a module; nothing inside of one, such as its adapters."""
    for name, child in layer.named_children():
        path = f"{prefix}{name}"
        if widths(child) is not None:
            yield path, child
        else:
            yield from _linears(child, f"{path}.")


def _classified(
    number: int, layer: nn.Module, path: str, module: nn.Module, experts: frozenset[str]
) -> RoleModule:
    """Return a module with its place, still under its own name."""
    *parents, leaf = path.split(".")
    chain = [layer.get_submodule(".".join(parents[: end + 1])) for end in range(len(parents))]
    owner = chain[-1] if chain else layer
    place = _place(parents, leaf, chain)
    excluded: Excluded = ""
    sizes = widths(module)
    if "experts" in parents:
        excluded = "expert"
    elif _is_router(path, owner, sizes):
        excluded = "router"
    elif leaf in experts:
        excluded = "taken for expert"
    elif place == "mixer" and leaf in _read_directly(type(owner)):  # type: ignore[arg-type]
        excluded = "read directly"
    return RoleModule(number, path, leaf, place, excluded, module)


def _place(parents: Sequence[str], leaf: str, chain: Sequence[Any]) -> Place:
    names = ".".join(parents).lower()
    if any(_has_state(module) for module in chain):
        return "mixer"
    siblings = {name for name, _ in chain[-1].named_children()} if chain else set()
    if _ATTENTION.search(names) or {"q_proj", "k_proj"} <= siblings:
        return "attention"
    synonyms = {*MLP_NAMES["up_proj"], *MLP_NAMES["down_proj"]}
    if _MLP.search(names) or (not parents and leaf in synonyms):
        return "mlp"
    return "mixer" if _MIXER.search(names) else "other"


def _has_state(module: nn.Module) -> bool:
    """Return whether a module is a state-space, convolution or linear-attention layer."""
    return hasattr(module, "A_log") or any(
        isinstance(child, nn.Conv1d) for child in module.children()
    )


def _is_router(path: str, owner: nn.Module, sizes: tuple[int, int] | None) -> bool:
    """Return whether a module chooses or weights experts."""
    leaf = path.rpartition(".")[2]
    return (
        "router" in path.lower()
        or (leaf == "gate" and hasattr(owner, "experts"))
        or (sizes is not None and sizes[1] == 1)
    )


@lru_cache
def _read_directly(kind: type) -> frozenset[str]:
    """Return the modules whose weight or bias a class reads without calling the module.

    Fused kernels of state-space layers do. An adapter would be passed over there.
    """
    try:
        code = inspect.getsource(kind)
    except (OSError, TypeError):
        return frozenset()
    return frozenset(re.findall(r"self\.(\w+)\.(?:weight|bias)\b", code))


def _with_roles(modules: Sequence[RoleModule], width: int) -> list[RoleModule]:
    """Give the modules of one layer their roles, group by group."""
    groups: dict[str, list[RoleModule]] = {}
    for module in modules:
        groups.setdefault(module.path.rpartition(".")[0], []).append(module)
    roles: dict[str, str] = {}
    for group in groups.values():
        usable = [m for m in group if not m.excluded]
        named = [m for m in usable if m.leaf not in (*PROJECTIONS, *FUSED)]
        if named and named[0].place == "attention":
            roles |= _by_name(named, ATTENTION_NAMES, width)
        elif named and named[0].place == "mlp":
            roles |= _by_shape(usable, width) or _by_name(named, MLP_NAMES, width)
    return [replace(module, role=roles.get(module.path, module.role)) for module in modules]


def _by_name(
    modules: Sequence[RoleModule], names: dict[str, tuple[str, ...]], width: int
) -> dict[str, str]:
    """Return the roles of modules with a known name and the shape that the role needs."""
    found: dict[str, str] = {}
    for module in modules:
        d_in, d_out = widths(module.module) or (0, 0)
        for role, others in names.items():
            if module.leaf.lower() in others:
                fits = d_out == width if role in ("o_proj", "down_proj") else d_in == width
                found |= {module.path: role} if fits else {}
    return found


def _by_shape(modules: Sequence[RoleModule], width: int) -> dict[str, str]:
    """Return the roles in an MLP by shape alone; empty where shapes do not decide.

    The down-projection leads back to the hidden width from an inner width. Before it comes one
    module of the inner width (up), one of twice that (gate and up fused), or two (gate and up,
    told apart by the word ``gate`` or the name ``w1``).
    """
    sizes = {module.path: widths(module.module) or (0, 0) for module in modules}
    down = [path for path, (d_in, d_out) in sizes.items() if d_out == width and d_in != width]
    if len(down) != 1:
        return {}
    inner = sizes[down[0]][0]
    rest = [m for m in modules if m.path != down[0] and sizes[m.path][0] == width]
    roles = {down[0]: "down_proj"}
    outs = [sizes[m.path][1] for m in rest]
    if len(rest) + 1 != len(modules) or not outs:
        return {}
    if outs == [inner]:
        return roles | {rest[0].path: "up_proj"}
    if outs == [2 * inner]:
        return roles | {rest[0].path: "gate_up_proj"}
    gates = [m.path for m in rest if "gate" in m.leaf.lower() or m.leaf == "w1"]
    if outs == [inner, inner] and len(gates) == 1:
        up = next(m.path for m in rest if m.path != gates[0])
        return roles | {gates[0]: "gate_proj", up: "up_proj"}
    return {}


def _named_apart(modules: Sequence[RoleModule]) -> list[RoleModule]:
    """Give a second module of the same role its whole path in the layer as its name."""
    found: list[RoleModule] = []
    taken: set[str] = set()
    for module in sorted(modules, key=lambda m: bool(m.excluded)):
        role = module.role
        place = module.place
        if role.isdigit():  # of a list, such as the adapters that Zamba 2 has itself
            place = "other"
        if role in taken or role.isdigit():
            role = module.path.replace(".", "_")
        taken.add(role)
        found.append(replace(module, role=role, place=place))
    order = {module.path: number for number, module in enumerate(modules)}
    return sorted(found, key=lambda module: order[module.path])
