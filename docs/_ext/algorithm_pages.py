"""Show an algorithm's definition and its figures: ``{definition}`` and ``{result}``."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from docutils.parsers.rst import directives
from from_library import FromLibrary, as_markdown
from links import whole_figures
from sphinx.application import Sphinx

from fedmosaic.algorithms import algorithm_class

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are not part of the library

from benchmarks.accuracy import curves, evidence_parts, evidence_published  # noqa: E402

EVIDENCE = ROOT / "benchmarks" / "results" / "evidence.json"
CURVE = (
    "Accuracy over rounds on the small scenario `miniature/quickstart`, with the scenario's own "
    "settings, three seeds; local training in grey. It shows how the algorithm behaves over "
    "rounds, not which one is best:"
)
# Rows of a table of results. A table of few columns needs no scrolling on a telephone.
MEASURES = (
    "Self",
    "Others",
    "Self minus local training",
    "Others minus local training",
    "local steps per round",
    "learning rate",
    "MB up / down",
)


class Definition(FromLibrary):
    """Show what an algorithm computes, where it departs from its paper, and its source."""

    def markdown(self, name: str) -> Iterator[str]:
        yield as_markdown(inspect.getdoc(algorithm_class(name)) or "") + "\n"


class Result(FromLibrary):
    """Show an algorithm's figures, the command that makes them, and its curve.

    The option ``no-command`` leaves the command out.
    """

    option_spec: ClassVar = {"no-command": directives.flag}

    def markdown(self, name: str) -> Iterator[str]:
        self.env.note_dependency(str(EVIDENCE))
        parts = json.loads(EVIDENCE.read_text())
        label = label_of(parts["static"]["rows"], name)
        if label is None:
            budgeted = algorithm_class(name).budgeted
            why = "it was added later" if budgeted else "no budget limits it"
            yield f"It was not measured in the main benchmark: {why}.\n"
        else:
            yield table(parts, label)
            if "no-command" not in self.options:
                yield row_command(parts["static"], label)
        yield curve(name)


class RowCommand(FromLibrary):
    """Show the command of an algorithm's figures alone."""

    def markdown(self, name: str) -> Iterator[str]:
        static = json.loads(EVIDENCE.read_text())["static"]
        label = label_of(static["rows"], name)
        if label is not None:
            yield row_command(static, label)


def label_of(rows: Mapping[str, Any], name: str) -> str | None:
    """Find the label of an algorithm's row; the first row of an algorithm has no other settings."""
    return next((label for label, row in rows.items() if row["algorithm"] == name), None)


def table(parts: Mapping[str, Any], label: str) -> str:
    """Make a table of Self and Others, one column for each benchmark that was run."""
    run = {part: content for part, content in parts.items() if label in content["rows"]}
    columns = [cells(content, label) for content in run.values()]
    lines = [f"| | {' | '.join(run)} |", "|---|" + "---|" * len(run)]
    for measure, *values in zip(MEASURES, *columns, strict=True):
        if any(values):
            lines.append(f"| {measure} | {' | '.join(values)} |")
    return "\n".join(lines) + "\n\n"


def cells(content: Mapping[str, Any], label: str) -> list[str]:
    """Write an algorithm's figures in the order of ``MEASURES``."""
    row = content["rows"][label]
    found = [interval(row[column]) for column in ("Self", "Others")]
    found += [interval(row[column].get("minus sft"), "+") for column in ("Self", "Others")]
    found += [str(row["steps"]), rate_of(content, label)]
    return [
        *found,
        "\u00a0/\u00a0".join(f"{row['bytes'][way] / 1e6:.1f}" for way in ("up", "down")),
    ]


def interval(found: Mapping[str, float] | None, sign: str = "") -> str:
    """Write ``mean ± half``."""
    if found is None:
        return ""
    return whole_figures(f"{found['mean']:{sign}.1f} ± {found['ci95']:.1f}")


def rate_of(content: Mapping[str, Any], label: str) -> str:
    """Write the learning rate of a row, so that no line breaks inside it."""
    found = ", ".join(setting.partition("=")[2] for setting in rates(content, label))
    return found.replace("-", "\u2011")


def rates(content: Mapping[str, Any], label: str) -> Sequence[str]:
    """Find the learning rate that a row chose; variants of FedMosaic take FedMosaic's."""
    chosen: Mapping[str, Sequence[str]] = content["chosen"]
    return chosen.get(label) or chosen["fedmosaic"]


def row_command(content: Mapping[str, Any], label: str) -> str:
    """Write the command of one seed of the static row."""
    known = evidence_published.variants_of("static")
    variant = next(found for found in known if found.label == label)
    settings = [*evidence_parts.SETTINGS, *variant.settings, *rates(content, label)]
    scenario = evidence_parts.SCENARIOS["static"]
    words = [f"fedmosaic run {scenario} --algorithm {variant.algorithm} --seed 0"]
    words += [f"--set {shlex.quote(setting)}" for setting in settings]
    shown = " \\\n  ".join(words)
    return f"Seed 0 of the static column is this run:\n\n```bash\n{shown}\n```\n"


def curve(name: str) -> str:
    """Show accuracy over rounds; variants have no curve of their own."""
    if name not in curves.ALGORITHMS:
        return ""
    path = f"algorithms/curves/{name}.svg"
    alt = f"Accuracy of {name} over rounds, local training in grey"
    return f"{CURVE}\n\n```{{image}} /{path}\n:alt: {alt}\n:class: light-paper\n```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("definition", Definition)
    app.add_directive("result", Result)
    app.add_directive("row-command", RowCommand)
    return {"parallel_read_safe": True}
