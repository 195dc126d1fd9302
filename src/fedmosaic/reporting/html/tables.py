"""Tables of a report as CSV with every figure in a column of its own, and as Markdown and LaTeX for reading."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fedmosaic.reporting.comparison import difference, mean
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
class Table:
    """A header, and rows of as many cells."""

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def csv(self) -> str:
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerows(
            [self.header, *(["" if cell is None else cell for cell in row] for row in self.rows)]
        )
        return stream.getvalue()

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "".join(
            "| " + " | ".join(_markdown(cell) for cell in line) + " |\n" for line in lines
        )

    def latex(self) -> str:
        """A ``tabular`` for the booktabs package."""
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


def comparison(section: Section) -> Table:
    """For reading: ``mean ± half`` of every figure, and its paired difference to local training."""
    header = ["algorithm"]
    for column in section.columns:
        header += [column, *([f"{column} − {section.reference}"] if section.reference else [])]
    rows = []
    for label, row in section.rows.items():
        cells = [label]
        for column in section.columns:
            figure = row.get(column)
            cells.append(mean(figure) if figure else "")
            if section.reference:
                cells.append(difference(figure.get("minus sft")) if figure else "")
        rows.append(cells)
    return Table(header, rows)


def figures(section: Section) -> Table:
    """For machines: one line for each label and figure."""
    header = [
        "algorithm",
        "figure",
        "seeds",
        "mean",
        "ci95",
        "minus sft",
        "minus sft ci95",
        "best other",
    ]
    header += ["minus best", "minus best ci95", "rank", "values"]
    rows = []
    for label, row in section.rows.items():
        for column in section.columns:
            if figure := row.get(column):
                local, best = figure.get("minus sft", {}), figure.get("minus best", {})
                line = [label, column, len(figure["values"]), figure["mean"], figure["ci95"]]
                line += [
                    local.get("mean"),
                    local.get("ci95"),
                    best.get("of"),
                    best.get("mean"),
                    best.get("ci95"),
                ]
                rows.append([*line, figure.get("rank"), " ".join(map(str, figure["values"]))])
    return Table(header, rows)


def costs(section: Section) -> Table:
    """What a run took: local steps, bytes, operations, seconds."""
    header = ["algorithm", "steps a round", "rounds", "MB a run", "TFLOP a run", "seconds a run"]
    rows = []
    for label, row in section.rows.items():
        flops = section.teraflops(label)
        counts = ["" if flops is None else f"{flops:.2f}", f"{row['seconds']:.0f}"]
        rows.append(
            [label, row["steps"] or "", row["rounds"], f"{section.megabytes(label):.1f}", *counts]
        )
    return Table(header, rows)


def curves(section: Section) -> Table:
    """Accuracy of each run after each evaluated round."""
    rows = [
        [label, seed, column, number + 1, round(value, 3)]
        for label, runs in section.runs.items()
        for seed, run in runs.items()
        for column, curve in run.curves.items()
        for number, value in curve.items()
    ]
    return Table(["algorithm", "seed", "figure", "round", "accuracy"], rows)


def relevance(section: Section) -> Table:
    """How much of whose knowledge each client received, in each run and round."""
    return Table(
        ["algorithm", "seed", "round", "client", "peer", "weight", "similarity"],
        list(_relevance_rows(section)),
    )


def _relevance_rows(section: Section) -> Iterator[list[Any]]:
    for label, runs in section.runs.items():
        for seed, run in runs.items():
            for number, found in run.relevance.items():
                for i, client in enumerate(found.clients):
                    for j, peer in enumerate(found.clients):
                        weight, alike = found.weights[i][j], found.similarity[i][j]
                        yield [
                            label,
                            seed,
                            number + 1,
                            client,
                            peer,
                            round(weight, 6),
                            round(alike, 6),
                        ]


def tasks(section: Section) -> Table:
    """Accuracy of each client on each task after the last round, in each run."""
    own = {client.name: {task.name for task in client.tasks} for client in section.scenario.clients}
    rows = [
        [label, seed, client, task, int(task in own[client]), round(100 * value, 3)]
        for label, runs in section.runs.items()
        for seed, run in runs.items()
        for client, found in run.summary["clients"].items()
        for task, value in found["tasks"].items()
    ]
    return Table(["algorithm", "seed", "client", "task", "own", "accuracy"], rows)


def gates(section: Section) -> Table:
    """The share of the global branch in each layer of each client, in each run."""
    rows = [
        [label, seed, client, layer, int(gate.block_end), round(gate.share, 6)]
        for label, runs in section.runs.items()
        for seed, run in runs.items()
        for client, layers in run.gates.items()
        for layer, gate in layers.items()
    ]
    return Table(["algorithm", "seed", "client", "layer", "block end", "global share"], rows)


def _markdown(cell: Any) -> str:
    return (
        re.sub(r"([\\|`*_<>\[\]])", r"\\\1", " ".join(str(cell).split()))
        if cell != "---"
        else "---"
    )


def _latex(cell: Any) -> str:
    return "".join(_TEX.get(letter, letter) for letter in " ".join(str(cell).split()))
