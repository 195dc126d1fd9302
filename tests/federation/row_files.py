"""Write a file of items with pictures, and change it in several ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

Items = list[dict[str, Any]]
COUNT = 12


def item(k: int, answer: str | None = None) -> dict[str, Any]:
    answer = answer or ("yes" if k % 2 == 0 else "no")
    return {
        "id": f"r{k}",
        "image": f"pictures/{k % 3}.png",
        "conversations": [
            {"from": "human", "value": f"Is {k} even? Options: yes, no"},
            {"from": "gpt", "value": answer},
        ],
    }


def write(folder: Path, items: Items, name: str = "rows.json", **layout: Any) -> None:
    (folder / name).write_text(json.dumps(items, **layout))


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path)


def laid_out_anew(folder: Path) -> None:
    items = [dict(reversed(item(k).items())) | {"source": "survey"} for k in range(COUNT)]
    write(folder, items, indent=7)


def other_file_names(folder: Path) -> None:
    items = [item(k) for k in range(COUNT)]
    for k in range(3):
        (folder / "pictures" / f"{k}.png").rename(folder / f"renamed-{k}.png")
    for entry in items:
        entry["image"] = entry["image"].replace("pictures/", "renamed-")
        entry["id"] = "x" + entry["id"]
    write(folder, items)


def touched(folder: Path) -> None:
    for path in [folder / "rows.json", *folder.glob("pictures/*")]:
        path.touch()


def one_answer(items: Items) -> Items:
    return [item(3, "yes") if k == 3 else entry for k, entry in enumerate(items)]


def one_question(items: Items) -> Items:
    items[4]["conversations"][0]["value"] = "Is 4 odd? Options: yes, no"
    return items


def one_picture(items: Items) -> Items:
    items[2]["image"] = "pictures/1.png"
    return items


def other_options(items: Items) -> Items:
    items[5]["conversations"][0]["value"] = "Is 5 even? Options: yes, no, perhaps"
    return items


def another_order(items: Items) -> Items:
    return [*items[:7], items[8], items[7], *items[9:]]


CHANGES: dict[Callable[[Items], Items], str] = {
    one_answer: r"rows\.json: item 3: answer changed, since",
    one_question: r"rows\.json: item 4: question changed, since",
    one_picture: r"rows\.json: item 2: picture changed, since",
    other_options: r"rows\.json: item 5: question and options changed, since",
    another_order: r"rows\.json: item 7: the items stand in another order \(2 items differ\)",
    lambda items: items[:6] + items[7:]: r"rows\.json: item 6 is gone, since",
    lambda items: items[:-1]: r"rows\.json: item 11 is gone, since",
    lambda items: [*items, item(20)]: r"rows\.json: item 12 is new, since",
    lambda items: [item(20), *items]: r"rows\.json: item 0 is new, since",
    lambda items: [item(30 + k) for k in range(COUNT)]: r"item 0: question.*\(12 items differ\)",
}
