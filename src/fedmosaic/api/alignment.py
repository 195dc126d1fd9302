"""Align models from Python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fedmosaic import alignment
from fedmosaic.alignment.standalone import StandaloneSettings
from fedmosaic.alignment.store import Alignment, save_alignment
from fedmosaic.config.load import apply_override, parse
from fedmosaic.data import public_examples
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.loading import ModelOptions
from fedmosaic.reporting.heat_map import write_heat_map
from fedmosaic.reporting.progress import AlignProgress


def align(
    models: Sequence[str],
    *,
    pivot: str,
    public: str = "miniature/public",
    size: int = 256,
    seed: int = 0,
    out: str | Path | None = None,
    root: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    join: str | Path | None = None,
    overrides: Sequence[str] = (),
    progress: bool = True,
    **settings: Any,
) -> list[Alignment]:
    """Align the frozen A and B of some models to those of a pivot.

    Args:
        models: names of the models, as in a scenario.
        pivot: name of the model that the others are aligned to.
        public: public data, see :func:`fedmosaic.data.public_examples`. ``synthetic`` is drawn
            pictures, or text where one of the models takes no pictures.
        size: number of public examples.
        seed: seed of every random draw.
        out: a folder for one file and one heat map of each model; None writes nothing.
        root: the folder that ``public`` refers to.
        device: torch device, see :class:`~fedmosaic.models.loading.ModelOptions`.
        dtype: torch dtype, see the same.
        join: a folder of refined alignments to the same pivot. They stay unchanged, and the models
            are refined to the pivot's.
        overrides: changes of single settings, ``["r=64", "num_blocks=8"]``.
        progress: whether to show progress in the terminal.
        **settings: fields of :class:`~fedmosaic.alignment.standalone.StandaloneSettings`: those of
            :class:`~fedmosaic.alignment.AlignmentSettings` and of
            :class:`~fedmosaic.adapters.placement.Placement`. ``refine=True`` stands for functional
            refinement with its placement (:data:`fedmosaic.alignment.REFINED`).

    Returns:
        one alignment for each model, in order.

    Raises:
        FedMosaicError: anything wrong with models, data or settings.
    """
    chosen = _settings({"seed": seed, **settings}, join, overrides)
    options = ModelOptions(dtype, device)
    loaded = {name: Backbone.load(name, options) for name in dict.fromkeys([*models, pivot])}
    public = _public_for(loaded.values(), public)
    examples = public_examples(public, size, seed, root=Path(root) if root is not None else None)
    with AlignProgress(progress) as shown:
        found = alignment.align(
            [loaded[name] for name in models],
            loaded[pivot],
            examples,
            chosen.alignment,
            chosen.placement_for(list(loaded.values())),
            shown,
        )
    if out is not None:
        _write(found, Path(out))
    return found


def _public_for(backbones: Iterable[Backbone], public: str) -> str:
    """Return the name of the public data; drawn pictures become text for models of text only."""
    text_only = any(not backbone.vision for backbone in backbones)
    return "synthetic/text" if public == "synthetic" and text_only else public


def _settings(
    content: dict[str, Any], join: str | Path | None, overrides: Sequence[str]
) -> StandaloneSettings:
    """Return the settings of a call, with those of refinement where it is asked for."""
    if content.get("refine") is True or join is not None:
        refine = {} if join is None else {"join": str(join)}
        content = {**alignment.REFINED, **content, "refine": refine}
    for change in overrides:
        apply_override(content, change)
    return parse(StandaloneSettings, content, "align")


def _write(alignments: Sequence[Alignment], folder: Path) -> None:
    for aligned in alignments:
        path = save_alignment(aligned, folder)
        if "cka" in aligned.report:
            write_heat_map(aligned, path.with_suffix(".png"))
