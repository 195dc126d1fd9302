"""Define tasks, clients and the data they use."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from fedmosaic.config import client_names
from fedmosaic.config.base import Settings, is_recorded


def name_mappings(value: Any) -> Any:
    """Write each bare name of a list of tasks or clients as ``{"name": name}``."""
    if not isinstance(value, list):
        return value
    return [{"name": item} if isinstance(item, str) else item for item in value]


class TaskSpec(Settings):
    """Name a task. A bare name is short for ``{name: …}``."""

    name: str
    """Name of the task, e.g. ``miniature/stages-0``."""

    kind: Literal["choice", "open"] | None = None
    """``choice``: multiple choice. ``open``: the answer is generated text. None: as the data says.

    A task from files is ``choice`` if any of its test examples has options, otherwise ``open``. Set
    ``open`` for DRAKE's open-ended tasks, whose files do not say it.
    """

    metric: Literal["accuracy", "f1", "rouge_l"] | None = None
    """Metric of the task. None: as the data says."""


class ClientSpec(Settings):
    """Describe one client: its model and its private tasks.

    A bare name is short for ``{name: …}``: the client's site knows the rest.
    """

    name: str
    """Name of the client, unique in the federation.

    It has letters and digits of any script, and between them blanks and the signs ``. _ -``. Files
    of the run are named after it, so two names must differ in more than capitals.
    """

    model: str = ""
    """Name of a bundled model or of one on the Hugging Face hub, or a path.

    Empty: the client's site names it, in a federation across machines.
    """

    r: int | None = Field(default=None, ge=1)
    """Rank of the client's adapters. None: ``adapter.r``."""

    tasks: tuple[TaskSpec, ...] = ()
    """Private tasks of the client, in the order of its stream.

    Empty: the client's site names them, in a federation across machines.
    """

    group: str = ""
    """Name shared by the clients with the same kind of tasks. Empty: no group.

    Splits Others into in-group and out-group in reports. Training never sees it; only the control
    ``fedmosaic-oracle`` does.
    """

    _task_names = field_validator("tasks", mode="before")(name_mappings)

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str, info: ValidationInfo) -> str:
        if reason := client_names.fault(value, is_recorded(info)):
            raise ValueError(reason)
        return value


class DataSettings(Settings):
    """Set where task names lead and how many examples of each task are used."""

    root: Path | None = None
    """Folder of the datasets, with the layout ``<Dataset>/{train,test}/dataset-<k>.json``.

    None: no dataset folder is needed.
    """

    train: int | None = Field(default=None, ge=1)
    """Most training examples per task. None: all, or the benchmark's own default."""

    test: int | None = Field(default=None, ge=1)
    """Most test examples per task. None: all, or the benchmark's own default."""

    background: Literal["white", "black"] = "white"
    """Colour behind the transparent parts of image files."""

    seed: int = 0
    """Seed of the benchmark's examples (procedural data) or of the sub-sample."""

    validation: int | None = None
    """Seed of a validation split.

    A fifth of each task's training examples is held out and evaluated in place of the test
    examples, which are not used. None: the test examples are evaluated.
    """

    public: str = "none"
    """Public set that the server and every client may see. ``none``: there is none.

    It is used to scale Co-LoRA's A and B, to align them, and by algorithms that distil.
    """

    public_size: int = Field(default=64, ge=1)
    """Number of public examples for scaling, distillation and, by default, alignment.

    ``alignment.size`` sets another number for the alignment.
    """
