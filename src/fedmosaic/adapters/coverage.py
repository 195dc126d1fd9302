"""Say what of a model carries adapters, and what does not and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from fedmosaic.adapters.targets import REASONS, targets
from fedmosaic.config import AdapterSettings
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.linear import widths
from fedmosaic.models.roles import RoleModule

EXPERTS = "one tensor holds many experts, of which a token sees a few"
FROZEN = "never adapted"


@dataclass(frozen=True)
class LeftOut:
    """Name a part of a model without adapters.

    Attributes:
        part: what it is, e.g. ``experts`` or ``vision tower and projector``.
        reason: why it carries none.
        share: its share of the model's parameters.
    """

    part: str
    reason: str
    share: float


@dataclass(frozen=True)
class Coverage:
    """Say what of a model carries adapters.

    Attributes:
        model: its name.
        layers: number of decoder layers.
        adapted_layers: number of decoder layers with adapters.
        share: share of the model's parameters that the adapted modules hold.
        roles: number of layers in which each role carries adapters.
        left_out: the parts without adapters.
    """

    model: str
    layers: int
    adapted_layers: int
    share: float
    roles: Mapping[str, int]
    left_out: Sequence[LeftOut]

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON holds it."""
        return asdict(self)


def adapted(backbone: Backbone, settings: AdapterSettings) -> Coverage:
    """Return what of a model carries adapters with these settings.

    Raises:
        ModelError: as :func:`fedmosaic.adapters.targets.targets`.
    """
    chosen = targets(backbone, settings.target_modules)
    sizes = dict(parameter_sizes(backbone.model))
    total = sum(sizes.values()) or 1
    inside = {id(module.module): module for layer in chosen for module in layer}
    covered = sum(_size(module.module, sizes) for module in inside.values())
    left = Counter[tuple[str, str]]()
    for layer in backbone.roles:
        for module in layer:
            if id(module.module) not in inside:
                left[_part(module, settings)] += _size(module.module, sizes)
    left += _other_parts(backbone, sizes)
    return Coverage(
        model=backbone.name,
        layers=backbone.num_layers,
        adapted_layers=sum(bool(layer) for layer in chosen),
        share=covered / total,
        roles=dict(Counter(module.role for layer in chosen for module in layer)),
        left_out=_grouped(left, total),
    )


def _grouped(left: Counter[tuple[str, str]], total: int) -> list[LeftOut]:
    """Return the parts, largest first; modules of one reason are one part."""
    sizes = Counter[str]()
    names: dict[str, list[str]] = {}
    for (part, reason), size in left.items():
        key = part if reason == FROZEN else reason
        sizes[key] += size
        if part not in names.setdefault(key, []):
            names[key].append(part)
    reasons = {part if reason == FROZEN else reason: reason for part, reason in left}
    return [
        LeftOut(", ".join(names[key]), reasons[key], size / total)
        for key, size in sizes.most_common()
    ]


def parameter_sizes(model: nn.Module) -> Iterator[tuple[int, int]]:
    """Yield the id and the number of values of each parameter, as it was before quantisation."""
    for module in model.modules():
        linear = widths(module)
        for name, parameter in module.named_parameters(recurse=False):
            whole = linear[0] * linear[1] if linear and name == "weight" else parameter.numel()
            yield id(parameter), whole


def _size(module: nn.Module, sizes: Mapping[int, int]) -> int:
    return sum(sizes[id(parameter)] for parameter in module.parameters())


def _part(module: RoleModule, settings: AdapterSettings) -> tuple[str, str]:
    """Return name and reason of a linear module of a decoder layer without adapters."""
    if module.excluded in ("router", "expert"):
        return f"{module.excluded}s", REASONS[module.excluded]
    if module.excluded:
        return module.role, REASONS[module.excluded]
    if settings.target_modules is not None:
        return module.role, REASONS[""]
    return module.role, "no part of attention, MLP or what replaces attention"


def _other_parts(backbone: Backbone, sizes: Mapping[int, int]) -> Counter[tuple[str, str]]:
    """Return the sizes of what is no linear module of a decoder layer; norms are not worth it."""
    left = Counter[tuple[str, str]]()
    seen = {
        id(parameter)
        for layer in backbone.roles
        for module in layer
        for parameter in module.module.parameters()
    }
    for layer in backbone.language_layers:
        for path, parameter in layer.named_parameters():
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            names = path.lower().split(".")
            if "experts" in names and parameter.dim() > 2:
                left["experts", EXPERTS] += sizes[id(parameter)]
            elif any("router" in name or name == "gate" for name in names):
                left["routers", REASONS["router"]] += sizes[id(parameter)]
    return left + _outside_layers(backbone, sizes, seen)


def _outside_layers(
    backbone: Backbone, sizes: Mapping[int, int], seen: set[int]
) -> Counter[tuple[str, str]]:
    """Return the sizes of what is outside the decoder layers; ``seen`` is what is inside."""
    left = Counter[tuple[str, str]]()
    decoder = {id(parameter) for parameter in backbone.structure.decoder.parameters()}
    head = {id(parameter) for parameter in backbone.lm_head.parameters()}
    tables = [backbone.model.get_input_embeddings()]
    tables += [m for m in backbone.structure.decoder.modules() if isinstance(m, nn.Embedding)]
    embeddings = {id(parameter) for table in tables for parameter in table.parameters()}
    for parameter in backbone.model.parameters():
        number = id(parameter)
        if number in seen:
            continue
        if number in embeddings:
            left["embeddings", FROZEN] += sizes[number]
        elif number in head:
            left["head", FROZEN] += sizes[number]
        elif number not in decoder:
            left["vision tower and projector", FROZEN] += sizes[number]
        elif parameter.dim() > 1:
            left["projections outside the layers", FROZEN] += sizes[number]
    return left
