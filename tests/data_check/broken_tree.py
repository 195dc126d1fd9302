"""Write a folder of data with faults of many kinds, each with the words that must name it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import PIL.Image

IMAGE_SIZE = (24, 24)


def picture(form: str = "PNG", shade: int = 90, **options: Any) -> bytes:
    buffer = io.BytesIO()
    drawn = PIL.Image.effect_noise(IMAGE_SIZE, shade).convert("RGB")
    drawn.save(buffer, form, **options)
    return buffer.getvalue()


def asked(
    name: str, text: str = "Is it red? Options: yes, no", answer: str = "yes", **more: Any
) -> Any:
    turns = [{"from": "human", "value": text}, {"from": "gpt", "value": answer}]
    return {"id": name, "conversations": turns, **more}


def write_images(folder: Path) -> None:
    """Write one good picture and one with each fault."""
    png = picture()
    contents = {
        "good.png": png,
        "cut.png": png[: len(png) // 2],
        "flipped.png": png[:60] + bytes([png[60] ^ 255]) + png[61:],
        "cut.jpg": picture("JPEG")[:-30],
        "cut.bmp": picture("BMP")[:-9],
        "cut.gif": picture("GIF")[:-30],
        "cut.tif": picture("TIFF")[:-40],
        "cut.webp": picture("WEBP", lossless=True)[:-9],
        "empty.png": b"",
        "page.jpg": b"<!DOCTYPE html><title>404</title>",
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "pointer.png": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "text.png": b"no picture",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    (folder / "folder.png").mkdir()


# Fault -> an item that has it, and words that its line must hold.
FAULTS: dict[str, tuple[Any, str]] = {
    "picture missing": (asked("1", image="none.png"), "none.png does not exist"),
    "picture cut short": (asked("2", image="cut.png"), "cut.png is corrupt or cut short"),
    "picture damaged": (asked("3", image="flipped.png"), "flipped.png is corrupt"),
    "photograph cut short": (asked("4", image="cut.jpg"), "cut.jpg is corrupt or cut short"),
    "bitmap cut short": (asked("5", image="cut.bmp"), "cut.bmp is corrupt or cut short"),
    "GIF cut short": (asked("6", image="cut.gif"), "cut.gif is corrupt or cut short"),
    "TIFF cut short": (asked("7", image="cut.tif"), "cut.tif is corrupt"),
    "WebP cut short": (asked("8", image="cut.webp"), "cut.webp is corrupt"),
    "empty picture": (asked("9", image="empty.png"), "empty.png is empty"),
    "web page": (asked("10", image="page.jpg"), "page.jpg is a web page"),
    "drawing": (asked("11", image="drawing.png"), "drawing.png is an SVG drawing"),
    "pointer": (asked("12", image="pointer.png"), "pointer.png is a pointer of Git LFS"),
    "text as picture": (asked("13", image="text.png"), "text.png is corrupt"),
    "folder as picture": (asked("14", image="folder.png"), "folder.png is a folder"),
    "address": (asked("15", image="https://example.org/a.png"), "https://example.org/a.png"),
    "second picture missing": (
        asked("16", text="<image><image> Same?", images=["good.png", "gone.png"]),
        "gone.png does not exist",
    ),
    "more marks than pictures": (
        asked("17", text="<image><image> Same?", image="good.png"), "2 <image> marks"
    ),
    "more pictures than marks": (
        asked("18", text="<image> Same?", images=["good.png", "good.png"]), "1 <image> mark"
    ),
    "mark without a picture": (asked("19", text="What is <image>?"), "<image>"),
    "no turns": ({"id": "20", "conversations": []}, "id '20'"),
    "no answer": (
        {"id": "21", "conversations": [{"from": "human", "value": "Why?"}]},
        "id '21'",
    ),
    "empty answer": (asked("22", text="Why?", answer=""), "id '22'"),
    "unknown speaker": (
        {"id": "23", "conversations": [{"from": "narrator", "value": "Then"}]},
        "id '23'",
    ),
    "turns that do not alternate": (
        {
            "id": "24",
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "human", "value": "b"},
                {"from": "gpt", "value": "c"},
            ],
        },
        "id '24'",
    ),
    "no object": ("a text", "item 24"),
    "video": (asked("26", video="a.mp4"), "field 'video'"),
    "sound": (asked("27", audio="a.wav"), "field 'audio'"),
    "pair of answers": (
        {"id": "28", "prompt": "a", "chosen": "b", "rejected": "c"},
        "id '28'",
    ),
    "unknown form": ({"id": "29", "length": 3}, "id '29'"),
    "too long for the model": (asked("30", text="of " * 3000, answer="yes"), "tokens"),
    "picture for a model of text": (asked("31", image="good.png"), "takes text only"),
    "a mark of the model": (asked("32", text="Is this the end <|eot_id|> of it?"), "<|eot_id|>"),
}  # fmt: skip


def write_tree(folder: Path) -> Path:
    """Write the folder, and return its data file."""
    write_images(folder)
    path = folder / "north.json"
    good = [asked(f"good {k}", text=f"Is {k} red? Options: yes, no") for k in range(4)]
    path.write_text(json.dumps([*(item for item, _ in FAULTS.values()), *good]))
    return path
