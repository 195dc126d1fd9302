"""Write small data sets to disk for the tests of the readers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

import fedmosaic
from fedmosaic.data.example import Example, Task, Turn


def write_image(path: Path, shade: int = 0, size: int = 16) -> Path:
    """Write a noisy picture in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(shade).integers(0, 256, (size, size, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file, or JSON Lines for a path that ends in ``.jsonl``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(item) for item in content) + "\n")
    else:
        path.write_text(json.dumps(content))
    return path


def item(question: str, answer: str, image: Any = None, **more: Any) -> dict[str, Any]:
    """Return a LLaVA-style item of one question and answer."""
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, **({} if image is None else {"image": image}), **more}


def write_drake(root: Path, dataset: str, subset: int, count: int = 6, prefix: str = "") -> None:
    """Write a dataset's subset in DRAKE's layout, with half as many test as training items."""
    for split, number in (("train", count), ("test", count // 2)):
        items = []
        for index in range(number):
            name = f"{dataset}/images/{split}-{index}.png"
            write_image(root / name, shade=index)
            question = f"<image>\nHow many in {index}? Choice list:[one, two]. Your answer is:"
            items.append(
                item(question, ("one", "two")[index % 2], [prefix + name], id=f"{split}-{index}")
            )
        write_json(root / dataset / split / f"dataset-{subset}.json", items)


def text_task(name: str, count: int) -> Task:
    """Return a task of ``count`` training questions without images."""
    examples = [
        Example(
            f"{name}-{index}", (Turn("user", f"question {index}"), Turn("assistant", str(index)))
        )
        for index in range(count)
    ]
    return Task(name, examples, examples[:1], kind="open", metric="f1")


def shown(path: Path, root: Path | None = None) -> list[str]:
    """Return the items of a file in short: turns, widths of pictures, options and the answer."""
    found = fedmosaic.show_data(path, root=root or path.parent)
    return [_in_short(entry.to_json()) for entry in found.items]


def _in_short(line: dict[str, Any]) -> str:
    learned = iter(line["learned"])
    turns = [
        turn["role"][0]
        + ("-" if turn["role"] == "assistant" and not next(learned) else "")
        + f":{turn['text']}"
        for turn in line["turns"]
    ]
    widths = [image["width"] for image in line["images"]]
    text = " | ".join(turns) + (f" {widths}" if widths else "")
    return text + (f" {line['options']} -> {line['answer']}" if line.get("options") else "")
