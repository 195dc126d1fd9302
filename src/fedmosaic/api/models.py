"""Check models from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmosaic import model_check
from fedmosaic.config.load import apply_override, parse
from fedmosaic.errors import ConfigError
from fedmosaic.model_check.items import read_items
from fedmosaic.model_check.report import CheckedModel
from fedmosaic.model_check.settings import CheckSettings
from fedmosaic.reporting.model_check import CheckProgress


def check_models(
    models: str | Sequence[str],
    *,
    data: str | Path | None = None,
    root: str | Path | None = None,
    limit: int | None = None,
    overrides: Sequence[str] = (),
    progress: bool = True,
) -> list[CheckedModel]:
    """Check in seconds whether models can be trained here, and what is adapted.

    Each model is loaded. Ids and loss of a few items are compared with plain transformers. One
    training step is taken, and the adapter is exported and loaded in plain PEFT.

    Args:
        models: name of a model, or several: as in a scenario.
        data: file of items to check with; None: items that are made here, with and without
            pictures.
        root: folder that the file and its image paths may start from, as a scenario's
            ``data.root``; None: the working folder.
        limit: number of items of the file, from its beginning; None: 8.
        overrides: settings of the sections ``models`` and ``adapter`` of a scenario,
            ``["models.dtype=bfloat16"]``.
        progress: whether to show progress on standard error.

    Returns:
        what was found, for each model in order; ``problems`` is empty where all is right.

    Raises:
        FedMosaicError: anything wrong with the data or the settings. What is wrong with a model is
            in its ``problems``.
    """
    content: dict[str, Any] = {}
    for change in overrides:
        apply_override(content, change)
    settings = parse(CheckSettings, content, "model check")
    if data is None and (limit, root) != (None, None):
        raise ConfigError("--limit and --root are about the items of a file: give it with --data")
    items = None if data is None else read_items(Path(data), Path(root or ""), limit)
    names = [models] if isinstance(models, str) else list(models)
    with CheckProgress(progress) as shown:
        return model_check.check_models(names, settings, items, shown)
