"""Print how a federation across machines stands, and what has left a client."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from fedmosaic.distributed.status import FederationStatus
from fedmosaic.reporting.privacy import privacy_lines
from fedmosaic.reporting.terminal import Column, TextTable, print_parts
from fedmosaic.reporting.units import amount, duration

STALE = 15.0
"""Seconds without a sign of life after which the server is called silent."""


def print_status(status: FederationStatus, clear: bool = False) -> None:
    """Print a table of the sites under a line on the server."""
    console = Console()
    if clear and console.is_terminal:
        console.clear()
    age = time.time() - status.updated
    parts = [f"{status.name}: {status.state}"]
    if status.rounds:
        parts.append(f"round {status.round} of {status.rounds}")
    if status.seconds_left:
        parts.append(f"about {duration(status.seconds_left)} left")
    print_parts([", ".join(parts)], console)
    if status.reason:
        print_parts([f"it stopped: {status.reason}"], console)
    if status.waiting_for:
        print_parts([f"waiting for {', '.join(status.waiting_for)}"], console)
    if status.state not in ("finished", "stopped") and age > STALE:
        print_parts([f"no sign of the server for {duration(age)}: it may have ended"], console)
    table = TextTable(
        [
            Column("client"),
            Column("state"),
            Column("for", right=True),
            Column("last round", right=True),
            Column("missed", right=True),
            Column("sent", right=True),
            Column("received", right=True),
            Column("last error", wrap=True),
        ]
    )
    for name, site in status.sites.items():
        table.add(
            name,
            site.state,
            duration(time.time() - site.since),
            str(site.round or "–"),
            str(site.missed or ""),
            amount(site.bytes_up),
            amount(site.bytes_down),
            site.error,
        )
    print_parts([table], console)


def print_audit(
    lines: Sequence[Mapping[str, Any]],
    privacy: Mapping[str, Mapping[str, Any]],
    tensors: bool = False,
) -> None:
    """Print what left a client, message by message."""
    console = Console()
    columns = ["time", "message", "round", "bytes", "tensors", "scores", "sha256"]
    table = TextTable(
        [Column(name, right=name in ("round", "bytes", "scores")) for name in columns]
    )
    for line in lines:
        number = line["round"]
        table.add(
            line["time"],
            line["kind"] + (" (error)" if line["error"] else ""),
            "" if number is None else str(number + 1),
            f"{line['bytes']:,}",
            _groups(line["tensors"]),
            str(line["scores"] or ""),
            line["sha256"][:12],
        )
    print_parts([table], console)
    if tensors:
        _print_tensors(lines, console)
    total = sum(line["bytes"] for line in lines)
    print_parts([f"{len(lines)} messages, {total:,} bytes"], console)
    for session, stated in privacy.items():
        print_parts([f"run {session[:8]}: {one}" for one in privacy_lines(stated)], console)


def _groups(tensors: Sequence[Mapping[str, Any]]) -> str:
    """Return how many tensors of each group there are, and their bytes."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for tensor in tensors:
        found[tensor["group"]].append(tensor["bytes"])
    return ", ".join(f"{len(sizes)} {name} ({sum(sizes):,})" for name, sizes in found.items())


def _print_tensors(lines: Sequence[Mapping[str, Any]], console: Console) -> None:
    table = TextTable(
        [
            Column("round", right=True),
            Column("tensor"),
            Column("group"),
            Column("shape"),
            Column("type"),
            Column("norm", right=True),
            Column("sha256"),
        ]
    )
    for line in lines:
        for tensor in line["tensors"]:
            table.add(
                "" if line["round"] is None else str(line["round"] + 1),
                tensor["name"],
                tensor["group"],
                "×".join(map(str, tensor["shape"])),
                tensor["dtype"],
                f"{tensor['norm']:.4g}",
                tensor["sha256"][:12],
            )
    print_parts([table], console)
