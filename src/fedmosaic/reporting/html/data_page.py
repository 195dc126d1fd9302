"""Write a web page that shows items of data with their pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from fedmosaic.data.image import Image
from fedmosaic.data.shown import ShownItem, describe_image
from fedmosaic.files import write_atomic
from fedmosaic.reporting.data_items import item_rows, title_of

THUMBNAIL = 320
"""Longest side of a picture on the page, in pixels."""


def write_items(items: Sequence[ShownItem], notes: Sequence[str], path: Path) -> Path:
    """Write a page of items, with every picture as a model is given it, and return its path.

    Pictures are in the page itself, no larger than :data:`THUMBNAIL` pixels.
    """
    here = Path(__file__).parent
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(here.joinpath("data_page.html.j2").read_text("utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    page = template.render(items=[_content(item) for item in items], notes=notes)
    write_atomic(path, page.encode())
    return path


def _content(item: ShownItem) -> dict[str, Any]:
    rows = [(label, text) for label, text in item_rows(item) if label != "image"]
    pictures = [{**describe_image(image), "uri": _uri(image)} for image in item.example.images]
    return {"title": title_of(item), "rows": rows, "pictures": pictures}


def _uri(image: Image) -> str:
    picture = image.load()
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
