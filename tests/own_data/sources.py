"""Write one small data set in every kind of file: 24 items, three classes, two sites."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

CLASSES = ("red", "green", "blue")
SITES = ("north", "south", "east")
COUNT = 24
QUESTION = "Which colour?"
MODEL = "miniature/llama-8x96"
OTHER = "miniature/qwen2-10x112"


def shade(index: int) -> str:
    return CLASSES[index % 3]


def site(index: int) -> str:
    return SITES[0 if index < 12 else 1 if index < 20 else 2]


def picture(path: Path, index: int) -> Path:
    """Write a picture of the item's colour, another one for each item."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(index).integers(0, 40, (16, 16, 3), dtype=np.uint8)
    pixels[..., CLASSES.index(shade(index))] += 200
    PIL.Image.fromarray(pixels).save(path)
    return path


def row(index: int, image: Any) -> dict[str, Any]:
    return {
        "image": image,
        "question": QUESTION,
        "choices": list(CLASSES),
        "answer": shade(index),
        "site": site(index),
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    names = [f"images/{index}.png" for index in range(COUNT)]
    for index, name in enumerate(names):
        picture(folder / name, index)
    return [row(index, name) for index, name in enumerate(names)]


def json_file(folder: Path) -> Path:
    items = rows(folder)
    path = folder / "items.json"
    path.write_text(json.dumps(items))
    return path


def with_test_file(folder: Path) -> Path:
    items = rows(folder)
    test = [{**item, "id": f"t{index}"} for index, item in enumerate(items) if index % 4 == 3]
    train = [{**item, "id": f"r{index}"} for index, item in enumerate(items) if index % 4 != 3]
    for name, part in (("train", train), ("test", test)):
        lines = "".join(json.dumps(item) + "\n" for item in part)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


def csv_table(folder: Path) -> Path:
    path = folder / "table.csv"
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["image", "question", "choices", "answer", "site"])
        writer.writeheader()
        for item in rows(folder):
            writer.writerow({**item, "choices": json.dumps(item["choices"])})
    return path


def conversations(folder: Path) -> Path:
    """Pictures named in parts of turns, as an API has them; ids that repeat."""
    items = []
    for index, item in enumerate(rows(folder)):
        parts = [
            {"type": "image_url", "image_url": {"url": item["image"], "detail": "auto"}},
            {"type": "text", "text": "Which colour? Choice list:[red, green, blue]"},
        ]
        turns = [
            {"role": "user", "content": parts},
            {"role": "assistant", "content": item["answer"]},
        ]
        items.append({"id": f"{index % 5}", "messages": turns, "site": item["site"]})
    path = folder / "talks.json"
    path.write_text(json.dumps(items))
    return path


def table(folder: Path) -> pa.Table:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    content = [picture(folder / f"{n}.png", n).read_bytes() for n in range(COUNT)]
    for index in range(COUNT):
        (folder / f"{index}.png").unlink()
    columns = {
        "image": pa.array([{"bytes": each, "path": None} for each in content], kind),
        "label": pa.array([index % 3 for index in range(COUNT)]),
        "site": pa.array([site(index) for index in range(COUNT)]),
    }
    described = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}}
    metadata = {"huggingface": json.dumps({"info": {"features": described}})}
    return pa.table(columns).replace_schema_metadata(metadata)


def parquet(folder: Path) -> Path:
    path = folder / "set.parquet"
    pq.write_table(table(folder), path, row_group_size=5)
    return path


def saved(folder: Path) -> Path:
    """A folder as ``datasets.Dataset.save_to_disk`` writes it, in two files."""
    whole = table(folder)
    names = [f"data-0000{number}-of-00002.arrow" for number in range(2)]
    for name, part in zip(names, (whole.slice(0, 10), whole.slice(10)), strict=True):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, part.schema) as s:
            s.write_table(part)
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    return folder


def image_folder(folder: Path) -> Path:
    lines = []
    for index in range(COUNT):
        picture(folder / f"{index}.png", index)
        line = {
            "file_name": f"{index}.png",
            "question": QUESTION,
            "options": CLASSES,
            "answer": shade(index),
        }
        lines.append(json.dumps({**line, "site": site(index)}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def drake(folder: Path) -> Path:
    """A dataset of DRAKE with two subsets, whose paths begin at a folder of the release."""
    dataset = folder / "VSR"
    for split, places in (("train", range(16)), ("test", range(16, COUNT))):
        for subset in (0, 1):
            items = []
            for index in list(places)[subset::2]:
                picture(dataset / "images" / f"{index}.png", index)
                turns = [
                    {
                        "from": "human",
                        "value": f"<image>\n{QUESTION} Choice list:[red, green, blue]",
                    },
                    {"from": "gpt", "value": shade(index)},
                ]
                image = [f"dataset/VSR/images/{index}.png"]
                site_of = SITES[index // 2 % 2]
                items.append({"id": index, "image": image, "conversations": turns, "site": site_of})
            path = dataset / split / f"dataset-{subset}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(items))
    return dataset


def turns_as_text(folder: Path) -> Path:
    """A table whose cells hold turns with pictures, and ends of lines of all kinds."""
    path = conversations(folder)
    items = json.loads(path.read_text())
    for item in items:
        item["messages"][0]["content"][1]["text"] += "\u2028Say\u0085it.\r\n"
        item["messages"] = json.dumps(item["messages"])
    path.write_text(json.dumps(items))
    return path


def class_folders(folder: Path) -> Path:
    """Pictures in folders of their classes, which say nothing of sites."""
    for index in range(COUNT):
        picture(folder / "colours" / shade(index) / f"{index}.png", index)
    return folder / "colours"


KINDS: dict[str, Callable[[Path], Path]] = {
    "json": json_file,
    "folder with test file": with_test_file,
    "csv": csv_table,
    "conversations": conversations,
    "turns as text": turns_as_text,
    "parquet": parquet,
    "saved": saved,
    "image folder": image_folder,
    "drake": drake,
}
