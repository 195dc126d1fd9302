"""Build the tables of a report, for reading as Markdown and LaTeX and for programs as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.reporting.comparison import difference, mean
from fedmosaic.reporting.html.run_data import RoundRelevance
from fedmosaic.reporting.html.sections import Section

_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    **{letter: "\\" + letter for letter in "&%$#_{}"},
}


@dataclass(frozen=True)
class ReportTable:
    """Hold a table that can be written as a file.

    Attributes:
        header: one heading a column.
        rows: as many cells in each; None is empty in CSV.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        """Return the table as CSV."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows(
            [self.header, *(["" if cell is None else cell for cell in row] for row in self.rows)]
        )
        return stream.getvalue()

    def markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "".join(
            "| " + " | ".join(_markdown(cell) for cell in line) + " |\n" for line in lines
        )

    def latex(self) -> str:
        """Return the table as a ``tabular`` environment for LaTeX's booktabs package."""
        lines = [
            " & ".join(_latex(cell) for cell in row) + r" \\" for row in [self.header, *self.rows]
        ]
        columns = "l" + "r" * (len(self.header) - 1)
        parts = [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
        ]
        return "\n".join([*parts, r"\end{tabular}", ""])


def comparison_table(section: Section) -> ReportTable:
    """Build the table for reading: ``mean ± half-width`` and the difference to local training."""
    local = section.has("minus sft")
    header = ["algorithm"]
    for column in section.columns:
        header += [column, *([f"{column}, difference to {section.reference}"] if local else [])]
    rows = []
    for label, row in section.rows.items():
        cells = [label]
        for column in section.columns:
            figure = row.get(column)
            cells.append(mean(figure) if figure else "")
            if local:
                cells.append(difference(figure.get("minus sft")) if figure else "")
        rows.append(cells)
    return ReportTable(header, rows)


def figure_table(section: Section) -> ReportTable:
    """Build the table for programs: one row for each label and column, values by seed."""
    header = ["algorithm", "figure", "seeds", "mean", "ci95", "minus sft", "minus sft ci95"]
    header += ["best other", "minus best", "minus best ci95", "rank", "values"]
    rows = []
    for label, row in section.rows.items():
        for column in section.columns:
            if figure := row.get(column):
                local, best = figure.get("minus sft", {}), figure.get("minus best", {})
                cells = [label, column, len(figure["values"]), figure["mean"], figure["ci95"]]
                cells += [local.get("mean"), local.get("ci95"), best.get("of")]
                cells += [best.get("mean"), best.get("ci95"), figure.get("rank")]
                rows.append([*cells, " ".join(map(str, figure["values"]))])
    return ReportTable(header, rows)


def cost_table(section: Section) -> ReportTable:
    """Build the table of local steps, bytes, operations and seconds of a run."""
    header = [
        "algorithm",
        "steps per round",
        "rounds",
        "MB per run",
        "TFLOP per run",
        "seconds per run",
    ]
    rows = []
    for label, row in section.rows.items():
        flops = section.teraflops(label)
        counts = ["" if flops is None else f"{flops:.2f}", f"{row['seconds']:.0f}"]
        rows.append(
            [label, row["steps"] or "", row["rounds"], f"{section.megabytes(label):.1f}", *counts]
        )
    return ReportTable(header, rows)


def round_table(section: Section) -> ReportTable:
    """Build the table of scores in percent of each run after each evaluated round."""
    rows = [
        [label, seed, column, number + 1, round(value, 3)]
        for label, runs in section.runs.items()
        for seed, run in runs.items()
        for column, curve in run.curves.items()
        for number, value in curve.items()
    ]
    return ReportTable(["algorithm", "seed", "figure", "round", section.measure], rows)


def relevance_table(section: Section) -> ReportTable:
    """Build the table of relevance weights and similarities in each run and round."""
    header = ["algorithm", "seed", "round", "client", "peer", "weight", "similarity"]
    rows = [
        [label, seed, number + 1, *pair]
        for label, runs in section.runs.items()
        for seed, run in runs.items()
        for number, found in run.relevance.items()
        for pair in _relevance_rows(found)
    ]
    return ReportTable(header, rows)


def _relevance_rows(found: RoundRelevance) -> Iterator[list[Any]]:
    for i, client in enumerate(found.clients):
        for place, weight, similarity in found.row(i):
            yield [client, found.clients[place], round(weight, 6), round(similarity, 6)]


def task_table(section: Section) -> ReportTable:
    """Build the table of scores in percent of each client on each task, in each run."""
    own = {client.name: {task.name for task in client.tasks} for client in section.scenario.clients}
    rows = [
        [
            label,
            seed,
            client,
            task,
            int(task in own[client]),
            run.measure(task),
            round(100 * value, 3),
        ]
        for label, runs in section.runs.items()
        for seed, run in runs.items()
        for client, found in run.summary["clients"].items()
        for task, value in found["tasks"].items()
        for percent in (round(100 * value, 3),)
    ]
    return ReportTable(["algorithm", "seed", "client", "task", "own", "measure", "score"], rows)


def gate_table(section: Section) -> ReportTable:
    """Build the table of shares of the global branch in each layer of each client and run."""
    rows = [
        [label, seed, client, layer, int(gate.block_end), round(gate.share, 6)]
        for label, runs in section.runs.items()
        for seed, run in runs.items()
        for client, layers in run.gates.items()
        for layer, gate in layers.items()
    ]
    return ReportTable(["algorithm", "seed", "client", "layer", "block end", "global share"], rows)


def _markdown(cell: Any) -> str:
    return (
        re.sub(r"([\\|`*_<>\[\]])", r"\\\1", " ".join(str(cell).split()))
        if cell != "---"
        else "---"
    )


def _latex(cell: Any) -> str:
    return "".join(_TEX.get(letter, letter) for letter in " ".join(str(cell).split()))
