"""List the algorithms, scenarios, models and datasets of the library, as tables or as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from fedmosaic.reporting.terminal import Column, TextTable, print_parts


@dataclass(frozen=True)
class Listing:
    """Hold a list that can be printed as a table or as JSON.

    Attributes:
        columns: columns of the table by the key of each entry.
        entries: one mapping an entry, from key to value.
        note: a sentence below the table; empty for none.
    """

    columns: Mapping[str, Column]
    entries: Sequence[Mapping[str, Any]]
    note: str = ""

    def table(self) -> TextTable:
        """Return the list as a table."""
        table = TextTable(list(self.columns.values()))
        for entry in self.entries:
            cells = [entry[key] for key in self.columns]
            table.add(*("" if cell is None else str(cell) for cell in cells))
        return table


def print_listing(kind: str, console: Console | None = None, as_json: bool = False) -> None:
    """Print a list.

    Args:
        kind: ``algorithms``, ``scenarios``, ``models`` or ``datasets``.
        console: where to print the table; by default standard output.
        as_json: print a JSON list of objects on standard output instead.
    """
    kinds: dict[str, Callable[[], Listing]] = {
        "algorithms": _algorithms,
        "scenarios": _scenarios,
        "models": _models,
        "datasets": _datasets,
    }
    listing = kinds[kind]()
    if as_json:
        print(json.dumps(listing.entries, indent=2, ensure_ascii=False))
        return
    parts: list[TextTable | Text | str] = [listing.table()]
    parts += ["", Text(listing.note, "dim")] if listing.note else []
    print_parts(parts, console)


def _algorithms() -> Listing:
    from fedmosaic.algorithms import algorithm_names, describe

    columns = {
        "name": Column("algorithm", style="bold"),
        "summary": Column("what it does", wrap=True),
        "paper": Column("source", wrap=True),
    }
    entries = [describe(name)._asdict() for name in algorithm_names()]
    return Listing(columns, entries)


def _scenarios() -> Listing:
    from fedmosaic.config.load import load_scenario, scenario_names

    columns = {
        "name": Column("scenario", style="bold"),
        "title": Column("title", wrap=True),
        "clients": Column("clients", right=True),
        "rounds": Column("rounds", right=True),
        "stream": Column("stream"),
    }
    entries = []
    for name in scenario_names():
        scenario = load_scenario(name)
        entries.append(
            {
                "name": name,
                "title": scenario.title,
                "clients": len(scenario.clients),
                "rounds": scenario.rounds,
                "stream": scenario.stream,
            }
        )
    return Listing(columns, entries)


def _models() -> Listing:
    from fedmosaic.models.names import bundled_names, locate
    from fedmosaic.models.packaged import PACKAGED_MODELS

    columns = {
        "name": Column("model", style="bold"),
        "family": Column("language model"),
        "layers": Column("layers", right=True),
        "width": Column("width", right=True),
        "vocabulary": Column("vocabulary", right=True),
    }
    shapes = {}
    for name in bundled_names():
        folder = locate(name).place
        with open(f"{folder}/config.json", encoding="utf-8") as stream:
            text = json.load(stream)["text_config"]
        keys = ("model_type", "num_hidden_layers", "hidden_size", "vocab_size")
        shapes[name] = tuple(text[key] for key in keys)
    shapes |= {name: packaged.shape for name, packaged in PACKAGED_MODELS.items()}
    entries = [dict(zip(columns, (name, *shape), strict=True)) for name, shape in shapes.items()]
    note = (
        "also: vision-language and causal language models of transformers, by Hugging Face name, "
        "folder or .gguf file; `fedmosaic model check NAME` says whether one works"
    )
    return Listing(columns, entries, note)


def _datasets() -> Listing:
    from fedmosaic.data import easy_vqa, reference
    from fedmosaic.miniature.benchmark.load import task_names, unseen_names

    columns = {
        "name": Column("tasks", style="bold"),
        "count": Column("number", right=True),
        "content": Column("content", wrap=True),
        "needs": Column("needs", wrap=True),
        "licence": Column("licence of the source", wrap=True),
    }
    drawn = len(task_names()) + len(unseen_names())
    rows = [
        ("miniature/<name>", drawn, "drawn pictures, structured like DRAKE", "nothing", ""),
        (
            "easy-vqa/<name>",
            len(easy_vqa.TASKS),
            "pictures of one shape",
            "fedmosaic[examples]",
            "",
        ),
        (
            "reference/<name>",
            len(reference.TASKS),
            "text about words, cities and countries",
            "fedmosaic[reference]",
            "MIT",
        ),
        *_benchmark_rows(),
        (
            "<Dataset>-<k>",
            None,
            "other data in the layout of DRAKE, <Dataset>/{train,test}/dataset-<k>.json",
            "setting data.root: their folder",
            "",
        ),
        ("<path>.json, .jsonl", None, "your own conversations or instructions", "nothing", ""),
    ]
    entries = [dict(zip(columns, row, strict=True)) for row in rows]
    note = "public data: miniature/public, reference/public, synthetic, synthetic/text, or a file"
    return Listing(columns, entries, note)


def _benchmark_rows() -> list[tuple[str, int, str, str, str]]:
    """Return a row for each data set of DRAKE and HFLB."""
    from fedmosaic.data.sources import BENCHMARKS, SOURCES

    rows = []
    for source in SOURCES.values():
        title = BENCHMARKS[source.benchmark].title + ", unseen" * source.unseen
        needs = f"fedmosaic data download {source.benchmark}"
        content = f"{title}: {source.content}"
        rows.append((f"{source.name}-<k>", len(source.subsets), content, needs, source.licence))
    return rows
