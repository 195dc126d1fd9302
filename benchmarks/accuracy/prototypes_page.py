"""Write the page of what prototypes reveal and what noise on them costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.common.tables import format_interval, table_head, table_row
from fedmosaic.experiments.statistics import interval

ROUTING = {"home": "own, kept", "owner": "others', to an owner", "nobody": "others', to nobody"}
MEMBERSHIP = {"auc": "AUC", "tpr": "true positives at 1 % false ones"}
ACCURACY = {"self": "Self", "others": "Others"}
Row = Mapping[str, Mapping[str, float]]


def page(content: Mapping[str, Any]) -> str:
    """Return the whole result in Markdown."""
    parts = (
        (
            "Which inputs go where",
            "Shares of test inputs in percent, without training, with 10 clients and 40 tasks.",
            ROUTING,
            content["routing"],
        ),
        (
            "Membership test",
            "In percent; 50 is guessing for the AUC, 1 for true positives.",
            MEMBERSHIP,
            content["membership"],
        ),
        (
            "Accuracy",
            "Accuracy in percent of `experts` with k = 16 on one architecture. *own*: every client "
            "answers everything itself, which is local training.",
            ACCURACY,
            content["accuracy"],
        ),
    )
    lines = [
        "# What prototypes reveal, and what noise costs",
        "",
        f"Made by `{content['command']}`, whose docstring says what is run; all figures are in "
        "`prototypes.json`. Noise has the standard deviation σ √k in each coordinate of the k "
        "prototypes. Mean ± half-width of the 95 % t-interval over seeds.",
    ]
    for title, text, columns, rows in parts:
        lines += ["", f"## {title}", "", text, "", *table(columns, rows)]
    return "\n".join([*lines, ""])


def table(columns: Mapping[str, str], rows: Mapping[str, Row]) -> Sequence[str]:
    """Return the lines of a table.

    Args:
        columns: title by measure.
        rows: values by label, measure and seed.
    """
    lines = table_head("", list(columns.values()))
    for label, measures in rows.items():
        cells = [format_interval(interval(list(measures[name].values()))) for name in columns]
        lines.append(table_row([label, *cells]))
    return lines
