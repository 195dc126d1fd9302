"""Print how items were divided among clients."""

from __future__ import annotations

from collections import Counter

from rich.console import Console

from fedmosaic.own_data.create import NewFederation
from fedmosaic.reporting.terminal import Column, TextTable, print_parts

MOST_LABELS = 6
MOST_VALUES = 3


def print_division(made: NewFederation, console: Console | None = None) -> None:
    """Print the numbers of items of each client, and of its most frequent labels."""
    total = sum((client.labels for client in made.clients), Counter[str]())
    shown = [label for label, _ in total.most_common(MOST_LABELS)]
    has_more = len(total) > len(shown)
    has_values = any(client.values for client in made.clients)
    columns = [Column("client"), *([Column("values", wrap=True)] if has_values else [])]
    columns += [Column("model"), Column("train", right=True), Column("test", right=True)]
    columns += [Column(_short(label), right=True) for label in shown]
    columns += [Column("other labels", right=True)] if has_more else []
    table = TextTable(columns)
    for client in made.clients:
        counts = [client.labels[label] for label in shown]
        rest = [client.labels.total() - sum(counts)] if has_more else []
        values = [", ".join(client.values[:MOST_VALUES])] if has_values else []
        if len(client.values) > MOST_VALUES:
            values[0] += f" and {len(client.values) - MOST_VALUES} more"
        numbers = [client.train, client.test, *counts, *rest]
        table.add(client.name, *values, client.model, *map(str, numbers))
    lines = ["labels: of the training items"] if shown else []
    lines += [f"public: {made.public} items that every client sees"] if made.public else []
    print_parts([table, *lines], console)


def _short(label: str, most: int = 16) -> str:
    flat = " ".join(label.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
