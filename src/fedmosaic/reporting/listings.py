"""``fedmosaic list``: algorithms, scenarios and models in one line each."""

from __future__ import annotations

from collections.abc import Callable

from rich import box
from rich.console import Console
from rich.table import Table


def listing(what: str, console: Console | None = None) -> None:
    """Print the list of ``algorithms``, ``scenarios``, ``models`` or ``datasets``."""
    rows: dict[str, Callable[[], Table]] = {
        "algorithms": _algorithms,
        "scenarios": _scenarios,
        "models": _models,
        "datasets": _datasets,
    }
    (console or Console()).print(rows[what]())


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, style="bold" if index == 0 else "", overflow="fold")
    return table


def _algorithms() -> Table:
    from fedmosaic.algorithms import algorithm_class, algorithm_names

    table = _table("algorithm", "what it does", "source")
    for name in algorithm_names():
        kind = algorithm_class(name)
        table.add_row(name, kind.summary, kind.paper)
    return table


def _scenarios() -> Table:
    from fedmosaic.config.load import load_scenario, scenario_names

    table = _table("scenario", "title", "clients", "rounds", "stream")
    for name in scenario_names():
        scenario = load_scenario(name)
        table.add_row(
            name, scenario.title, str(len(scenario.clients)), str(scenario.rounds), scenario.stream
        )
    return table


def _models() -> Table:
    import json

    from fedmosaic.models.packaged import PACKAGED
    from fedmosaic.models.source import bundled_names, locate

    table = _table("model", "language model", "layers", "width", "vocabulary")
    for name in bundled_names():
        folder, _ = locate(name)
        with open(f"{folder}/config.json", encoding="utf-8") as stream:
            text = json.load(stream)["text_config"]
        row = [
            text["model_type"],
            text["num_hidden_layers"],
            text["hidden_size"],
            text["vocab_size"],
        ]
        table.add_row(name, *map(str, row))
    for name, packaged in PACKAGED.items():
        table.add_row(name, *map(str, packaged.shape))
    table.caption = (
        "and any LLaVA-style or causal language model by Hugging Face id, folder or .gguf file"
    )
    return table


def _datasets() -> Table:
    from fedmosaic.data import easy_vqa, reference
    from fedmosaic.miniature.benchmark.load import task_names, unseen_names

    table = _table("tasks", "how many", "what they are", "what they need")
    drawn = [*task_names(), *unseen_names()]
    table.add_row(
        "miniature/<name>", str(len(drawn)), "drawn pictures, in the structure of DRAKE", "nothing"
    )
    table.add_row(
        "easy-vqa/<name>", str(len(easy_vqa.TASKS)), "pictures of one shape each", "extra examples"
    )
    table.add_row(
        "reference/<name>",
        str(len(reference.TASKS)),
        "words, cities, countries; text",
        "extra reference",
    )
    table.add_row(
        "<Dataset>-<k>", "", "DRAKE, HFLB and others in their layout", "the folder data.root"
    )
    table.add_row("<path>.json, .jsonl", "", "your own conversations or instructions", "")
    table.caption = (
        "public sets: miniature/public, reference/public, synthetic, synthetic/text, or a file"
    )
    return table
