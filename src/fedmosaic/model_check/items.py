"""Choose the items of a check: those of a data file, or some that are made here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fedmosaic.data import check_images, read_examples
from fedmosaic.data.example import Example, Turn
from fedmosaic.data.image import Image
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.prefix import takes_suffix
from fedmosaic.seeding import rng

LIMIT = 8
"""Items of a data file that are checked, where no other number is asked for."""

_QUESTION, _ANSWER = Turn("user", "Which colour has grass?"), Turn("assistant", "green")


def read_items(path: Path, root: Path, limit: int | None) -> Sequence[Example]:
    """Return the first items of a data file, with their pictures looked at.

    Args:
        path: the file, as it is or below ``root``.
        root: folder that image paths may start from, before the file's own.
        limit: the most items; None: :data:`LIMIT`.

    Raises:
        DataError: the file, an item or a picture is bad.
    """
    if not root.is_dir():
        raise DataError(f"the folder {root}, where paths of {path} may start, does not exist")
    below = root / path
    place = below if below.is_file() else path
    found = read_examples(place, roots=[root], limit=LIMIT if limit is None else limit)
    check_images({str(path): found})
    return found


def made_items(backbone: Backbone) -> tuple[Example, list[Example]]:
    """Return the item that the model must take, and further ones that it may take.

    They are a question and its answer, about one picture where the model takes pictures; two turns,
    and two pictures of different sizes.
    """
    text = Example("text", (_QUESTION, _ANSWER))
    more = (*text.turns, Turn("user", "And snow?"), Turn("assistant", "white"))
    two_turns = Example("two turns", more)
    if not backbone.vision:
        return text, [two_turns]
    wide, tall = _picture(336, 448), _picture(448, 336)
    one = (Turn("user", "<image>\nWhat is in this picture?"), Turn("assistant", "noise"))
    two = (Turn("user", "<image><image>\nWhich is wider?"), Turn("assistant", "the first"))
    others = [Example("two pictures", two, (wide, tall))]
    if not takes_suffix(backbone.chat, backbone.processor):
        others += [text, two_turns]
    return Example("one picture", one, (wide,)), others


def _picture(height: int, width: int) -> Image:
    draw = rng(0, "model check", str(height), str(width))
    return Image(draw.integers(0, 256, (height, width, 3), dtype=np.uint8))
