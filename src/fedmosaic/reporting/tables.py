"""The final table of a run, for a terminal: Self and Others of every client and over all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text


def summary_table(summary: Mapping[str, Any]) -> RenderableType:
    """One line a client and one for their mean; accuracies in percent."""
    title = f"{summary['scenario']} · {summary['algorithm']} · seed {summary['seed']}"
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold")
    table.add_column("client")
    table.add_column("model", style="dim")
    table.add_column("self", justify="right")
    table.add_column("others", justify="right")
    table.add_column("in-group", justify="right", style="dim")
    table.add_column("out-group", justify="right", style="dim")
    for name, client in summary["clients"].items():
        others = client["others"]
        table.add_row(
            name,
            client.get("model", ""),
            percent(client["self"]["last"]),
            percent(others["last"]),
            percent(others.get("in_group", {}).get("last")),
            percent(others.get("out_group", {}).get("last")),
        )
    table.add_section()
    others = summary["others"]
    table.add_row(
        "mean",
        "",
        percent(summary["self"]["last"]),
        percent(others["last"]),
        percent(others.get("in_group", {}).get("last")),
        percent(others.get("out_group", {}).get("last")),
        style="bold",
    )
    rounds = summary["rounds"]
    if rounds["done"] < rounds["of"]:
        table.title = f"{title} · after {rounds['done']} of {rounds['of']} rounds"
    return Group(table, Text(_footer(summary), style="dim"))


def _footer(summary: Mapping[str, Any]) -> str:
    evaluation = summary["evaluation"]
    seconds, size = summary["seconds"], summary["bytes"]
    parts = [
        f"accuracy in % after the last round, choices by {evaluation['choice']}, {evaluation['view']} model",
        f"A_AUC self {percent(summary['self']['auc'])}, others {percent(summary['others']['auc'])}",
        f"sent {amount(size['up'])} up, {amount(size['down'])} down",
        f"{duration(seconds['total'])}: {duration(seconds['train'])} training, {duration(seconds['evaluate'])} evaluation",
    ]
    if flops := summary.get("flops"):
        local, server = operations(flops["client_round"]), operations(flops["server_round"])
        parts.append(
            f"counted {local} a client and round in {summary['steps']} local steps, {server} on the server"
        )
    parts += [
        f"{name}: self {percent(f['self']['last'])}, others {percent(f['others']['last'])}"
        for name, f in summary["also"].items()
    ]
    if summary.get("refused"):
        parts.append(f"{summary['refused']} updates refused (see metrics.jsonl)")
    return "\n".join(parts)


def percent(value: float | None) -> str:
    """``0.5123`` as ``51.2``; a dash where nothing was measured."""
    return "–" if value is None else f"{100 * value:.1f}"


def amount(size: float) -> str:
    """Bytes in a readable unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def operations(count: float) -> str:
    """Floating-point operations in a readable unit."""
    for unit in ("MFLOP", "GFLOP", "TFLOP"):
        count /= 1000 if unit != "MFLOP" else 1e6
        if count < 1000:
            break
    return f"{count:.1f} {unit}" if count else "none"


def duration(seconds: float) -> str:
    """Seconds as ``48 s``, ``3:05`` or ``1:02:03``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def print_summary(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the table."""
    (console or Console()).print(summary_table(summary))
