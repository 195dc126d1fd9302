"""Tiny checkpoints of real model families, with random weights, as their publishers save them."""

from __future__ import annotations

from pathlib import Path

from tests.families.language_dense import DENSE
from tests.families.language_others import OTHERS
from tests.families.language_refused import REFUSED as REFUSED_FAMILIES
from tests.families.vision_grids import GRIDS
from tests.families.vision_llava import LLAVA
from tests.families.vision_more import MORE, NEED_TORCHVISION
from tests.families.vision_tiles import TILES

SEEING = {**LLAVA, **GRIDS, **TILES, **MORE}
FAMILIES = {**SEEING, **NEED_TORCHVISION, **DENSE, **OTHERS, **REFUSED_FAMILIES}
VISION = tuple(SEEING)
LANGUAGE = (*DENSE, *OTHERS)
TORCHVISION = tuple(NEED_TORCHVISION)  # their processors cannot be loaded without it
REFUSED = tuple(REFUSED_FAMILIES)


def build(name: str, folder: Path) -> Path:
    """Write the checkpoint of the family ``name`` into ``folder``; the same bytes every time."""
    return FAMILIES[name].save(folder)
