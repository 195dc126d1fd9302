"""Print items of data as a person reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from fedmosaic.data.shown import ShownItem, describe_image
from fedmosaic.reporting.measures import MEASURES
from fedmosaic.reporting.terminal import print_parts

LABEL_WIDTH = 10
# The tokens of an image are often hundreds of the same one.
_REPEATED = re.compile(r"(<[^<>]+>)\1{3,}")


def print_items(items: Sequence[ShownItem], console: Console | None = None) -> None:
    """Print a block for each item: its images, its turns, its options and what is learned."""
    parts: list[Text | str] = []
    for item in items:
        parts.append(Text(title_of(item), "bold"))
        for label, text in item_rows(item):
            first, *others = text.splitlines() or [""]
            parts.append(f"  {label:<{LABEL_WIDTH}}{first}")
            parts += [" " * (LABEL_WIDTH + 2) + line for line in others]
        parts.append("")
    print_parts(parts[:-1] if parts else ["no items"], console)


def title_of(item: ShownItem) -> str:
    """Return file, position and id of an item."""
    split = f"{item.split} " if item.split else ""
    return f"{item.source}: {split}item {item.index} (id {item.example.id!r})"


def item_rows(item: ShownItem) -> Iterator[tuple[str, str]]:
    """Yield label and text of each thing that an item holds."""
    example = item.example
    for image in example.images:
        found = describe_image(image)
        red, green, blue = (round(value) for value in found["mean"])
        size = f"{found['width']} × {found['height']} pixels"
        yield "image", f"{found['path'] or 'drawn'}, {size}, mean RGB {red} {green} {blue}"
    for turn in example.turns:
        label = "answer" if turn.role == "assistant" else turn.role
        yield label, turn.text if turn.learned else f"{turn.text} (not learned)"
    if example.options:
        yield "options", " | ".join(example.options)
        yield "right", example.answer
    yield "scored by", MEASURES[item.metric]
    if item.encoded:
        learned = sum(label >= 0 for label in item.encoded["label_ids"])
        yield "tokens", f"{len(item.encoded['ids'])}, of which {learned} are learned"
        yield "sample", _REPEATED.sub(_counted, item.encoded["tokens"])
        yield "learned", item.encoded["labels"]


def _counted(found: re.Match[str]) -> str:
    return f"{found[1]} × {len(found[0]) // len(found[1])} "
