"""Define what a client's own site decides: its model, its data, and what leaves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from fedmosaic.config import client_names
from fedmosaic.config.base import Settings, is_recorded
from fedmosaic.config.data import TaskSpec, name_mappings
from fedmosaic.config.models import ModelSettings


class SiteDataSettings(Settings):
    """Set where the data of a site is. How much of it is used, the server sets."""

    root: Path | None = None
    """Folder of the datasets. None: the folder of this file."""

    background: Literal["white", "black"] | None = None
    """Colour behind the transparent parts of image files. None: the federation's."""

    public: str | None = None
    """This site's copy of the federation's public set, where that is a file.

    The content must be the same at all sites. What is computed from it may leave the site, so the
    server cannot name a file here. Not needed for sets that come with the package.
    """


class ShareSettings(Settings):
    """Set what may leave a site beyond what every federation needs, P, Q and signatures."""

    lora: bool = True
    """Send adapters for clients of the same model."""

    metrics: bool = True
    """Send scores and the figures of local training."""

    task_names: bool = True
    """Send the names of tasks with the scores. false: they are numbered."""


class SiteSettings(Settings):
    """Describe one client at its own site: the file of ``fedmosaic client``.

    Relative paths start from the folder of this file. All other settings are the federation's: the
    server sends them.
    """

    name: str
    """Name of the client, under which the server expects it."""

    model: str
    """Name of a bundled model or of one on the Hugging Face hub, or a path.

    A path stays here; the server learns its last part and the fingerprint of the weights.
    """

    r: int | None = Field(default=None, ge=1)
    """Rank of the client's adapters. None: the federation's."""

    tasks: tuple[TaskSpec, ...] = Field(min_length=1)
    """Private tasks, in the order of the stream. They stay here."""

    others: tuple[TaskSpec, ...] = ()
    """Further tasks on which the client is evaluated; their test data is here.

    The figures of ``evaluation.others`` come from them, which the server may turn off. Own tasks
    are evaluated first, unless this list gives them another place.
    """

    data: SiteDataSettings = SiteDataSettings()
    """Where the data is."""

    models: ModelSettings = ModelSettings()
    """Device, dtype and loading of base models."""

    threads: int = Field(default=0, ge=0)
    """Torch threads. 0: one for a bundled miniature, else torch's choice."""

    evaluation_batch_size: int | None = Field(default=None, ge=1)
    """Most sequences in a batch of evaluation. None: the federation's."""

    replace_models: dict[str, str] = Field(default_factory=dict)
    """Local copies of models that the server names: name to name or path.

    They are the model of the signatures and the pivot of an alignment. A copy must have the same
    weights.
    """

    requires: dict[str, Any] = Field(default_factory=dict)
    """Settings of the federation without which the site takes no part: dotted name to value.

    E.g. ``{relevance.clip: 1.0, train.steps: 50}``.
    """

    share: ShareSettings = ShareSettings()
    """What may leave the site."""

    server: str = ""
    """Address of the server: ``HOST:PORT``."""

    keys: Path | None = None
    """Folder of this client's keys, from ``fedmosaic keys``."""

    out: Path | None = None
    """Folder of this client's state and of the log of what left it. None: the client's name."""

    reconnect_seconds: float = Field(default=86_400.0, gt=0)
    """Longest time without the server, in seconds, after which the client stops: one day."""

    _task_names = field_validator("tasks", "others", mode="before")(name_mappings)

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str, info: ValidationInfo) -> str:
        if reason := client_names.fault(value, is_recorded(info)):
            raise ValueError(reason)
        return value
