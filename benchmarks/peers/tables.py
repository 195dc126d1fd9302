"""Write the comparison as a page, and its table and its reading into the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import ROOT
from benchmarks.common.tables import table_head, table_row

DOCUMENT = ROOT / "docs" / "choosing.md"
# What other work on the machine changes; shown only if it was quiet at the start.
BY_CLOCK = {"wall time, s": "wall", "a round, s": "round", "start and end, s": "rest"}
QUIET = 1.0  # load average
LARGEST_DIFFERENCE = 1e-2  # of weights, relative; rounding grows over the steps of AdamW
COLUMNS = {
    "processor time, s": "processor",
    "memory, MiB": "pss",
    "lines": "lines",
}
# What the programs are called in a sentence, and where the difference comes from.
WORDS = {
    "one_process": (
        "a loop with PEFT in one process",
        "Forward and backward passes are the same work in both, and nearly all of it.",
    ),
    "flower": (
        "Flower with PEFT",
        "Flower starts a server, Ray and a process for the clients, which load the model anew each "
        "time; what starts once weighs less in a longer run.",
    ),
}


def is_quiet(result: Mapping[str, Any]) -> bool:
    """Return whether the machine had nothing else to do when the comparison began."""
    return bool(result["load_average"] <= QUIET)


def table(result: Mapping[str, Any]) -> str:
    """Return medians by program, with the ratio to fedmosaic where it is not fedmosaic itself."""
    columns = {**BY_CLOCK, **COLUMNS} if is_quiet(result) else COLUMNS
    lines = table_head("program", list(columns))
    for name, row in result["programs"].items():
        cells = [row["title"]]
        for figure in columns.values():
            cell = f"{row[figure]:.1f}" if figure in ("round", "rest") else f"{row[figure]:.0f}"
            compared = name != "fedmosaic" and figure in row["ratio"]
            cells.append(f"{cell} ({row['ratio'][figure]:.2f} ×)" if compared else cell)
        lines.append(table_row(cells))
    return "\n".join(lines)


def reading(result: Mapping[str, Any]) -> str:
    """Return what the figures say, as a list: which program needs more of what, and why."""
    rows, setting = result["programs"], result["setting"]
    lines = [
        f"- FedAvg of LoRA among {setting['clients']} clients, {setting['rounds']} rounds, on "
        f"{result['machine']['cores']} cores; medians of alternating runs ({setting['pairs']} of "
        "each program), in brackets the median ratio to fedmosaic in the same turn.",
        "- Memory is that of all processes together; pages that they share count once. Lines are "
        "those that a user writes, without blank lines and comments.",
    ]
    if not is_quiet(result):
        lines.append(
            "- Other programs ran on the machine, so that times on the clock are not shown: they "
            "are in `peers.json`. Processor time counts the program's own work only."
        )
    if parallel := [row["title"] for name, row in rows.items() if name.endswith("_2")]:
        lines.append(
            f"- Two clients train at a time, on one thread each, in: {'; '.join(parallel)}. The "
            "others use all cores for one client."
        )
    lines += [_against(rows, name, is_quiet(result)) for name in WORDS if name in rows]
    differences = {name: row["difference_of_weights"] for name, row in rows.items()}
    far = [name for name, value in differences.items() if value > LARGEST_DIFFERENCE]
    apart = max(value for name, value in differences.items() if name not in far)
    which = "All programs" if not far else "The programs not named below"
    lines.append(
        f"- {which} learn the same: their last averages differ by {apart:.0e} of their norm, "
        "from rounding."
    )
    lines += [_far(rows, name) for name in far]
    return "\n".join(lines)


def _far(rows: Mapping[str, Any], name: str) -> str:
    """Return how the weights and losses of a program depart from fedmosaic's."""
    row, ours = rows[name], rows["fedmosaic"]
    gaps = [abs(a - b) for a, b in zip(row["loss"], ours["loss"], strict=True)]
    return (
        f"- **{row['title']}** ends with other weights: they differ by "
        f"{row['difference_of_weights']:.0e} of their norm. Its training losses differ by "
        f"{' / '.join(f'{gap:.0e}' for gap in gaps)} in the rounds."
    )


def _against(rows: Mapping[str, Any], name: str, clock: bool) -> str:
    """Return what fedmosaic needs of a peer's time, memory and lines."""
    row, title, why = rows[name], *WORDS[name]
    shares = {figure: f"{1 / row['ratio'][figure]:.2f} ×" for figure in row["ratio"]}
    parts = [f"{shares['processor']} the processor time", f"{shares['pss']} the memory"]
    if clock:
        parts += [f"{shares['wall']} the wall time", f"{shares['round']} that of a round"]
    lines = f"{rows['fedmosaic']['lines']} lines for {row['lines']}"
    return f"- **fedmosaic against {title}:** {', '.join(parts)}, and {lines}. {why}"


def page(result: Mapping[str, Any]) -> str:
    """Return the page of the result."""
    losses = " → ".join(f"{value:.3f}" for value in result["programs"]["fedmosaic"]["loss"])
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    return "\n".join(
        [
            "# The same federation with Flower and PEFT, and with PEFT by hand",
            "",
            f"Made by `{result['command']}`; {versions}; load average {result['load_average']} at "
            "the start. All figures are in `peers.json`.",
            "",
            table(result),
            "",
            reading(result),
            "",
            f"Training loss by round: {losses}.",
            "",
        ]
    )


def write_tables(result: Mapping[str, Any]) -> None:
    """Write table and reading into the documentation."""
    write_between_marks("peers", table(result), DOCUMENT)
    write_between_marks("peers reading", reading(result), DOCUMENT)
