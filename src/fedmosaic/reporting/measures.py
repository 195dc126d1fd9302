"""Name the measures that figures show."""

from __future__ import annotations

from collections.abc import Iterable

MEASURES = {"accuracy": "accuracy", "f1": "token F1", "rouge_l": "ROUGE-L"}


def named(metrics: Iterable[str], explained: bool = False) -> str:
    """Name the measures of a figure: ``accuracy``, or ``accuracy or token F1``.

    Args:
        metrics: keys of :data:`MEASURES`. Without any, as in files of earlier versions, the figure
            is called a score.
        explained: say that every task has its own measure, where there are several.
    """
    found = set(metrics)
    names = [name for metric, name in MEASURES.items() if metric in found]
    note = " (each task by its own)" if explained and len(names) > 1 else ""
    return " or ".join(names) + note or "score"


def opening(text: str) -> str:
    """Return a text with a capital at its start."""
    return text[:1].upper() + text[1:]
