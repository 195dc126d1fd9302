"""Make a small DRAKE in its published layout: 40 tasks with JPEG pictures, and the unseen ones."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fedmosaic.data.sources import DataSource, sources_of

# Pictures of an item, where a task has more than one. Some tasks have items of several numbers.
PICTURES = {
    "Fashion200K-0": (2, 3, 5),
    "Fashion200K-1": (3,),
    "Fashion200K-2": (4,),
    "FashionIQ-0": (2,),
    "NLVR2-0": (2,),
    "NLVR2-1": (2,),
    "CIRR-0": (2,),
    "VISION-0": (2,),
    "VISION-1": (4,),
    "MagicBrush-0": (2,),
    "SEED-Bench-2-2": (2, 8),
    "IRFL-1": (4,),
    "IRFL-2": (4,),
    "Bongard-OpenWorld-0": (13,),
    "Bongard-OpenWorld-1": (6,),
    "Bongard-HOI-0": (13,),
    "Bongard-HOI-1": (6,),
    "Bongard-HOI-2": (7,),
    "COMICS_Dialogue-0": (3,),
    "MIT-States-0": (2,),
    "Co-Instruct-DB-2": (2,),
    "Co-Instruct-DB-3": (3,),
    "iconqa-0": (1, 3),
    "RecipeQA_ImageCoherence-0": (4,),
    "RecipeQA_VisualCloze-0": (7,),
    "Mantis_contrastive_caption-0": (8,),
    "Mantis_contrastive_caption-1": (8,),
    "HQ_Edit-0": (2,),
    "DreamSim-0": (3,),
    "imagecode-0": (10,),
}
COLOURS = {"red": (200, 40, 40), "green": (40, 170, 60), "blue": (50, 60, 200)}
SHORT = ("3", "seven", "half past two", "12", "a circle")
# How the prompts of a task list their options; a task has one of them.
FORMS = (
    "{question}\nChoice list:[{commas}]",
    "{question} Choice list:[{commas}]. Your answer is:",
    "{question}\nOptions: {commas}",
    "{question}\n{letters}",
    '{question}\nChoice list:["{quotes}"]',
)
FOLDERS = {"Fashion200K": "full/images", "NLVR2": "images/dev", "IRFL": "IRFL images"}


def picture(path: Path, colour: tuple[int, int, int], draw: random.Random) -> None:
    """Write a JPEG of any size; some are grey, some are turned by their EXIF entry."""
    height, width = draw.randint(24, 180), draw.randint(24, 180)
    ramp = np.linspace(-20, 20, width * height).reshape(height, width, 1)
    pixels = np.clip(np.asarray(colour) + ramp, 0, 255).astype(np.uint8)
    found = Image.fromarray(pixels)
    exif = Image.Exif()
    if draw.random() < 0.3:
        exif[0x0112] = draw.choice([3, 6, 8])
    if draw.random() < 0.1:
        found = found.convert("L")
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path, "JPEG", quality=70, exif=exif, progressive=draw.random() < 0.2)


def question(task: str, subset: int, opened: bool, number: int, count: int) -> tuple[str, str]:
    """Return the question of an item and its answer."""
    if opened:
        return f"How much is shown in number {number}? Answer shortly.", SHORT[number % 5]
    names = list(COLOURS)
    if subset % 2 and count > 1:
        options = [f"image {place + 1}" for place in range(min(count, 4))]
        asked, answer = "Which image fits?", options[number % len(options)]
    elif len(task) % 3 == 0:
        options, asked = ["Yes", "No"], f"Is it {names[number % 3]}?"
        answer = options[number % 2]
    else:
        options, asked, answer = names, "Which colour prevails?", names[number % 3]
    letters = "\n".join(f"{letter}. {option}" for letter, option in zip("ABCD", options))  # noqa: B905
    form = FORMS[(len(task) + subset) % len(FORMS)]
    text = form.format(
        question=asked, commas=", ".join(options), letters=letters, quotes='", "'.join(options)
    )
    return text, answer


def items(
    source: DataSource, subset: int, split: str, number: int, root: Path, draw: random.Random
) -> list[dict[str, Any]]:
    """Return the items of a task's split, and write their pictures below ``root``."""
    task, folder = f"{source.name}-{subset}", FOLDERS.get(source.name, "images")
    made = []
    for index in range(number):
        count = draw.choice(PICTURES.get(task, (1,)))
        names = [f"{folder}/{split}_{subset}_{index}_{k}.jpg" for k in range(count)]
        colour = list(COLOURS.values())[index % 3]
        for name in names:
            picture(root / source.name / name, colour, draw)
        text, answer = question(task, subset, subset in source.open_ended, index, count)
        # As in the release, whose working folder has the data sets in its folder ``dataset``.
        paths = [f"dataset/{source.name}/{name}" for name in names]
        marks = "<image>" * count if draw.random() < 0.5 else "<image>\n" * count
        turns = [{"from": "human", "value": marks + text}, {"from": "gpt", "value": answer}]
        image = paths[0] if count == 1 and draw.random() < 0.5 else paths
        made.append({"id": f"{task}-{split}-{index}", "image": image, "conversations": turns})
    return made


def write_tree(root: Path, train: int = 4, test: int = 2, unseen: bool = True) -> Path:
    """Write a small DRAKE; the same bytes every time.

    Args:
        root: folder of the data sets.
        train: training items of each task.
        test: test items of each task.
        unseen: write the unseen tasks, too.
    """
    draw = random.Random(0)
    for source in sources_of("drake"):
        for subset in source.subsets if unseen or not source.unseen else ():
            for split, number in (("train", train), ("test", test)):
                path = root / source.name / split / f"dataset-{subset}.json"
                path.parent.mkdir(parents=True, exist_ok=True)
                content = items(source, subset, split, number, root, draw)
                path.write_text(json.dumps(content, indent=1))
    return root
