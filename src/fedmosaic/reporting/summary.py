"""Print the final table of a run: the score of every client on its own and on the others' tasks."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from rich.console import Console
from rich.text import Text

from fedmosaic.reporting.measures import named
from fedmosaic.reporting.privacy import privacy_lines
from fedmosaic.reporting.terminal import Column, TextTable, print_parts
from fedmosaic.reporting.units import amount, duration, operations, percent

GROUP_COLUMNS = ("in-group", "out-group")
LONGEST = 60  # clients in the table


def print_summary(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the summary of a run.

    Args:
        summary: see :func:`fedmosaic.federation.run_summary.summary_of`.
        console: where to print; by default standard output.
    """
    notes = "\n".join(_notes(summary))
    print_parts(["", summary_table(summary), "", Text(notes, "dim")], console)


def summary_table(summary: Mapping[str, Any]) -> TextTable:
    """Build a table with one row a client and one row for their mean; scores in percent.

    Of many clients it shows the first :data:`LONGEST`, and says how many it leaves out.
    """
    grouped = has_groups(summary)
    columns = [Column("client"), Column("model", style="dim")]
    columns += [Column("self", right=True), Column("others", right=True)]
    columns += [Column(name, right=True, style="dim") for name in GROUP_COLUMNS if grouped]
    rounds = summary["rounds"]
    title = f"{summary['scenario']} · {summary['algorithm']} · seed {summary['seed']}"
    if rounds["done"] < rounds["of"]:
        title += f" · after {rounds['done']} of {rounds['of']} rounds"
    table = TextTable(columns, title=title)
    for name, client in islice(summary["clients"].items(), LONGEST):
        table.add(name, client.get("model", ""), *_scores(client, grouped))
    if (more := len(summary["clients"]) - LONGEST) > 0:
        table.add(f"and {more} more", "in summary.json", *[""] * (len(columns) - 2))
    table.add("mean", "", *_scores(summary, grouped), style="bold", spaced=True)
    return table


def has_groups(summary: Mapping[str, Any]) -> bool:
    """Return whether a run measured tasks of the same group apart from those of other groups.

    That takes at least two groups of clients, one of them with several clients.
    """
    others = summary["others"]
    return all(others.get(part, {}).get("last") is not None for part in ("in_group", "out_group"))


MODELS = {
    "own": "the client's own model",
    "mixed": "the client's own model",
    "expert": "an expert",
    "global": "what was received",
    "base": "the base model",
}
"""Names of the models among which a view chooses for each input."""


def _scores(measured: Mapping[str, Any], grouped: bool) -> list[str]:
    others = measured["others"]
    parts = [measured["self"], others]
    parts += [others.get(name, {}) for name in ("in_group", "out_group") if grouped]
    return [percent(part.get("last")) for part in parts]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    """Return what the columns mean, and what the run sent and took."""
    evaluation = summary["evaluation"]
    seconds, size = summary["seconds"], summary["bytes"]
    groups = "; in-group, out-group: tasks of the same and of other groups"
    measures = named(evaluation.get("metrics") or (), explained=True)
    notes = [
        f"{measures} in % after the last round, "
        f"choices by {evaluation['choice']}, {evaluation['view']} model",
        "self: the client's own tasks; others: the other clients' tasks"
        + (groups if has_groups(summary) else ""),
        "mean over rounds (A_AUC): "
        f"self {percent(summary['self']['auc'])}, others {percent(summary['others']['auc'])}",
        f"sent {amount(size['up'])} up, {amount(size['down'])} down",
        f"took {duration(seconds['total'])}; summed over clients: "
        f"{duration(seconds['train'])} training, {duration(seconds['evaluate'])} evaluation",
    ]
    if answered := summary.get("answered_by"):
        total = sum(answered.values())
        shares = (f"{MODELS.get(k, k)} {percent(n / total)} %" for k, n in answered.items())
        notes.append(f"inputs answered by: {', '.join(shares)}")
    if flops := summary.get("flops"):
        local, server = operations(flops["client_round"]), operations(flops["server_round"])
        steps = summary["steps"]
        notes.append(
            f"computed in a round: {local} a client in {steps} local steps, {server} on the server"
        )
    notes += [
        f"{name}: self {percent(f['self']['last'])}, others {percent(f['others']['last'])}"
        for name, f in summary["also"].items()
    ]
    if summary.get("refused"):
        notes.append(f"{summary['refused']} updates refused (see metrics.jsonl)")
    notes += defence_notes(summary)
    return notes + privacy_lines(summary.get("privacy")) + data_notes(summary)


def defence_notes(summary: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every client whose updates the defences clipped or refused."""
    return [
        f"defences: client {client!r}: "
        + ", ".join(
            f"{what} in {count} round{'s' * (count > 1)}" for what, count in found.items() if count
        )
        + " (see metrics.jsonl)"
        for client, found in summary.get("defences", {}).items()
    ]


def data_notes(summary: Mapping[str, Any]) -> list[str]:
    """Return a sentence for every change of the data that was accepted during a run."""
    return [
        f"data changed after round {found['round']}: {change['file']}: {change['first']}"
        + (f" ({change['items']} items differ)" if change["items"] > 1 else "")
        + (f"; {change['leaked']} tested items were trained on before" if change["leaked"] else "")
        for found in summary.get("data_changes", ())
        for change in found["changes"]
    ]
