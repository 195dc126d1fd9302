"""Show an algorithm's definition and its figures: ``{definition}`` and ``{result}``."""

from __future__ import annotations

import inspect
import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from from_library import FromLibrary, as_markdown
from links import whole_figures
from sphinx.application import Sphinx

from fedmosaic.algorithms import algorithm_class

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # the benchmarks are not part of the library

from benchmarks.accuracy import evidence  # noqa: E402

EVIDENCE = ROOT / "benchmarks" / "results" / "evidence.json"
CURVE = (
    "Accuracy over rounds on the small scenario `miniature/quickstart`, with the scenario's own "
    "settings, three seeds; local training in grey. It shows how the algorithm behaves over "
    "rounds, not which one is best:"
)
HEAD = "| | Self | Others | Self − sft | Others − sft | local steps a round | rate | MB up / down |"


class Definition(FromLibrary):
    """Show what an algorithm computes, where it departs from its paper, and its source."""

    def markdown(self, name: str) -> Iterator[str]:
        yield as_markdown(inspect.getdoc(algorithm_class(name)) or "") + "\n"


class Result(FromLibrary):
    """Show an algorithm's row of the evidence, the command that makes it, and its curve."""

    def markdown(self, name: str) -> Iterator[str]:
        self.env.note_dependency(str(EVIDENCE))
        parts = json.loads(EVIDENCE.read_text())
        label = label_of(parts["static"]["rows"], name)
        if label is None:
            yield "It has no row in the evidence: it is outside every budget.\n"
        else:
            yield table(parts, label)
            yield row_command(parts["static"], label)
        yield curve(name)


def label_of(rows: Mapping[str, Any], name: str) -> str | None:
    """Find the label of an algorithm's row; the first row of an algorithm has no other settings."""
    return next((label for label, row in rows.items() if row["algorithm"] == name), None)


def table(parts: Mapping[str, Any], label: str) -> str:
    """Make a table of Self and Others, with the differences to local training."""
    lines = [HEAD, "|---|" + "---|" * 7]
    for part, content in parts.items():
        row = content["rows"].get(label)
        if row is None:
            continue
        cells = [interval(row[column]) for column in ("Self", "Others")]
        cells += [interval(row[column].get("minus sft"), "+") for column in ("Self", "Others")]
        cells += [str(row["steps"]), rate_of(content, label)]
        cells += ["\u00a0/\u00a0".join(f"{row['bytes'][way] / 1e6:.1f}" for way in ("up", "down"))]
        lines.append(f"| {part} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n\n"


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
    variant = next(found for found in evidence.variants_of("static") if found.label == label)
    settings = [*evidence.SETTINGS, *variant.settings, *rates(content, label)]
    scenario = evidence.SCENARIOS["static"]
    words = [f"fedmosaic run {scenario} --algorithm {variant.algorithm} --seed 0"]
    words += [f"--set {shlex.quote(setting)}" for setting in settings]
    shown = " \\\n  ".join(words)
    return f"Seed 0 of the static row is this run:\n\n```bash\n{shown}\n```\n"


def curve(name: str) -> str:
    """Show accuracy over rounds, where it has been drawn."""
    path = f"algorithms/curves/{name}.svg"
    if not (ROOT / "docs" / path).is_file():
        return ""
    alt = f"Accuracy of {name} over rounds, local training in grey"
    return f"{CURVE}\n\n```{{image}} /{path}\n:alt: {alt}\n:class: light-paper\n```\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directives."""
    app.add_directive("definition", Definition)
    app.add_directive("result", Result)
    return {"parallel_read_safe": True}
