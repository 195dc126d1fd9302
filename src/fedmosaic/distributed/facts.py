"""State what a site says of itself when it joins, and nothing else.

The server settles from it what a federation depends on: which clients have one architecture, which
model computes signatures, to which one the others are aligned, and which modules all of them share.
Weights, data, paths and the names of files stay at the site.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from fedmosaic.alignment.identity import plain_name
from fedmosaic.config import DataSettings, Settings, SiteSettings, TaskSpec
from fedmosaic.config.load import parse
from fedmosaic.data.example import Example
from fedmosaic.errors import ConfigError, UpdateError
from fedmosaic.federation.beginning import versions
from fedmosaic.federation.pools import ModelPool, TaskPool
from fedmosaic.models.role_names import Excluded, ModelRoles, Place, RoleName
from fedmosaic.relevance.signature import signature_kind

FORMAT = 1
LOOKED_AT = 64  # items of a set that makes its pictures on access, which takes long

Text = Annotated[str, Field(max_length=300)]
Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class SignatureFacts(Settings):
    """State whether and how a model gives signatures."""

    method: Literal["closed form", "autograd", "no"]
    """``no``: it gives none."""

    layer: Text
    """Path of the linear layer whose weight's gradient is the signature."""

    reason: Annotated[str, Field(max_length=2000)]
    """Why there is no closed form, or no signature."""


class SiteFacts(Settings):
    """Hold what the server learns of a site before the first round."""

    format: int
    """Version of this description."""

    name: Text
    """Name of the client."""

    architecture: Text
    """Name of its model without the folders of the machine."""

    weights: Hex
    """Fingerprint of the model's weights, tokenizer and shape."""

    parameters: int = Field(ge=1)
    """Number of parameters."""

    width: int = Field(ge=1)
    """Width of the hidden states."""

    modules: tuple[tuple[Text, Text, Place, Excluded], ...] = Field(max_length=10_000)
    """Path, role, place of each kind of linear module, and why it can carry no adapter."""

    layers: tuple[tuple[int, ...], ...] = Field(min_length=1, max_length=10_000)
    """For each decoder layer the numbers of its modules in ``modules``."""

    takes_images: bool
    """Whether the model takes images."""

    trains_on_images: bool
    """Whether the client's training items have images."""

    signature: SignatureFacts
    """Whether and how the model gives signatures."""

    r: int | None = Field(ge=1)
    """Rank of the client's adapters; None: the federation's."""

    tasks: tuple[Text, ...] = Field(min_length=1, max_length=10_000)
    """Names of the client's tasks under which scores are sent."""

    others: tuple[Text, ...] = Field(max_length=100_000)
    """Names of further tasks on which it is evaluated."""

    sends_lora: bool
    """Whether adapters for clients of the same model leave the site."""

    sends_metrics: bool
    """Whether scores and figures of local training leave the site."""

    versions: dict[Text, Text] = Field(max_length=100)
    """Versions of the packages that the numbers depend on."""

    @model_validator(mode="after")
    def _numbers_of_modules(self) -> SiteFacts:
        if any(not 0 <= n < len(self.modules) for layer in self.layers for n in layer):
            raise ValueError("layers: a number of a module that is not there")
        return self

    def roles(self, name: str = "") -> ModelRoles:
        """Return the linear modules of the model, which messages call ``name``."""
        return ModelRoles(
            name or self.architecture,
            [
                [RoleName(layer, *self.modules[n]) for n in numbers]
                for layer, numbers in enumerate(self.layers)
            ],
        )


def read_facts(content: Any, origin: str) -> SiteFacts:
    """Check what came from a site.

    Raises:
        UpdateError: it is of another version, damaged, or too large; begins with ``origin``.
    """
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise UpdateError(
            f"{origin}: it describes itself in format {found!r}, but this version reads format "
            f"{FORMAT}; install one version of fedmosaic everywhere"
        )
    try:
        return parse(SiteFacts, content, origin)
    except ConfigError as error:
        raise UpdateError(str(error)) from error


def site_facts(site: SiteSettings, models: ModelPool) -> SiteFacts:
    """Return what a site says of itself; loads its model and data.

    Raises:
        FedMosaicError: its model or a task cannot be loaded; the message says why.
    """
    backbone = models.backbone(site.model)
    places: dict[tuple[str, str, Place, Excluded], int] = {}
    layers = [
        tuple(
            places.setdefault((one.path, one.role, one.place, one.excluded), len(places))
            for one in layer
        )
        for layer in backbone.roles
    ]
    kind = signature_kind(backbone)
    labels = task_labels(site)
    own = {spec.name for spec in site.tasks}
    return SiteFacts(
        format=FORMAT,
        name=site.name,
        architecture=plain_name(site.model),
        weights=backbone.fingerprint,
        parameters=sum(p.numel() for p in backbone.model.parameters()),
        width=backbone.hidden_size,
        modules=tuple(places),
        layers=tuple(layers),
        takes_images=backbone.vision,
        trains_on_images=_has_images(site),
        signature=SignatureFacts(
            method=kind.method,
            layer=kind.layer,
            reason=kind.reason.replace(site.model, plain_name(site.model))[:2000],
        ),
        r=site.r,
        tasks=tuple(labels[spec.name] for spec in site.tasks),
        others=tuple(labels[spec.name] for spec in site.others if spec.name not in own),
        sends_lora=site.share.lora,
        sends_metrics=site.share.metrics,
        versions=versions(),
    )


def task_labels(site: SiteSettings) -> dict[str, str]:
    """Return under which name the scores of each task are sent, by the task's name at the site.

    It is the name without the folders of the machine, or a number with ``share.task_names: false``.
    """
    names = dict.fromkeys(spec.name for spec in (*site.tasks, *site.others))
    if not site.share.task_names:
        return {name: f"{site.name} task {number}" for number, name in enumerate(names, start=1)}
    labels: dict[str, str] = {}
    for name in names:
        label = base = _without_folders(name, site.data.root)
        numbers = itertools.count(2)
        while label in labels.values():
            label = f"{base}-{next(numbers)}"
        labels[name] = label
    return labels


def _without_folders(task: str, root: Path | None) -> str:
    path = Path(task)
    if not path.is_absolute():
        return task
    return str(path.relative_to(root)) if root and path.is_relative_to(root) else path.name


def _has_images(site: SiteSettings) -> bool:
    data = DataSettings(root=site.data.root, background=site.data.background or "white")
    pool = TaskPool(data)
    return any(_pictured(pool, spec) for spec in site.tasks)


def _pictured(pool: TaskPool, spec: TaskSpec) -> bool:
    examples: Sequence[Example] = pool.task(spec).train
    if isinstance(examples, list | tuple):
        return any(example.images for example in examples)
    return any(example.images for example in itertools.islice(examples, LOOKED_AT))
