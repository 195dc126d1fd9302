"""Print the answers of a client, and which of its models gave them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from fedmosaic.algorithms.base import BASE, RECEIVED
from fedmosaic.algorithms.common.experts import EXPERT, OWN
from fedmosaic.federation.prediction import Prediction
from fedmosaic.relevance.routes import Nearness
from fedmosaic.reporting.terminal import Column, TextTable, print_parts

LABEL_WIDTH = 12
NEAREST = 3
"""Experts whose distances are shown."""
_MODELS = {
    OWN: "the client's own model",
    "mixed": "the client's own model",
    RECEIVED: "what the client received from the others",
    BASE: "the base model, without adapters",
}


def print_prediction(found: Prediction, console: Console | None = None) -> None:
    """Print one answer, the model that gave it, and the distances that led to that model."""
    rows = [f"  {label:<{LABEL_WIDTH}}{text}" for label, text in prediction_rows(found)]
    print_parts([Text(found.answer or "(an empty answer)", "bold"), *rows], console)


def print_predictions(found: Sequence[Prediction], console: Console | None = None) -> None:
    """Print a row for each answer, and how many each model gave."""
    table = TextTable([Column("item"), Column("answer", wrap=True), Column("model"), Column("")])
    words = {True: "right", False: "wrong", None: ""}
    for one in found:
        expected = f" ({one.expected})" if one.right is False else ""
        table.add(one.id, one.answer, one.model, words[one.right] + expected)
    counts = Counter(one.model for one in found).most_common()
    lines = ["", f"answered by: {', '.join(f'{name} {count}' for name, count in counts)}"]
    known = [one.right for one in found if one.right is not None]
    if known:
        lines.append(f"right: {sum(known)} of {len(known)} whose right option is known")
    print_parts([table, *lines], console)


def prediction_rows(found: Prediction) -> Iterator[tuple[str, str]]:
    """Yield label and text of each thing that is known of an answer."""
    what = _MODELS.get(found.model, "")
    if found.model.startswith(EXPERT):
        name, _, part = found.model.removeprefix(EXPERT).partition("/")
        of_part = f", for part {part} of its prompts" if part else ""
        what = f"the adapter of client {name}{of_part}"
    yield "model", f"{found.model}: {what}" if what else found.model
    if found.nearness is not None:
        yield from _distances(found.nearness)
    if found.options:
        pairs = sorted(zip(found.scores, found.options, strict=True), key=lambda pair: -pair[0])
        yield "scores", ", ".join(f"{option} {score:.3f}" for score, option in pairs)
        changed = "what the adapter changes in the log-likelihoods of the base model"
        plain = "log-likelihoods, up to a constant where options are one token each"
        yield "", changed if found.by_difference else plain


def _distances(near: Nearness) -> Iterator[tuple[str, str]]:
    if math.isinf(near.own):
        yield "own prompts", "none"
    else:
        limit = f"familiar up to {near.threshold:.2f}" if near.threshold >= 0 else "too few"
        yield "own prompts", f"the nearest is at {near.own:.2f} ({limit})"
    if near.experts:
        first = list(near.experts.items())[:NEAREST]
        shown = ", ".join(f"{name} at {distance:.2f}" for name, distance in first)
        rest = len(near.experts) - len(first)
        more = f" and {rest} more" if rest else ""
        limit = "the nearest counts" if math.isinf(near.radius) else f"near up to {near.radius:.2f}"
        yield "prototypes", f"{shown}{more} ({limit})"
