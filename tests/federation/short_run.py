"""Make short runs of the tiny scenario, and read what they leave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fedmosaic
from fedmosaic.federation.callbacks import Callback


def start(tiny: Path, out: Path, **options: Any) -> Any:
    return fedmosaic.run(tiny, out=out, progress=False, trackers=(), **{"workers": 1, **options})


def numbers(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics without timings."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "parts", "memory")}
        for line in lines
    ]


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of checkpoints and adapters, by path."""
    parts = [folder / "checkpoints", folder / "adapters"]
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for part in parts
        for p in sorted(part.rglob("*"))
        if p.is_file()
    }


class StopAt(Callback):
    """Raise in the middle of a round, as Ctrl-C does."""

    def __init__(self, round_number: int, client: str) -> None:
        self.at = (round_number, client)

    def client_finished(self, round_number: int, client: str, report: Any) -> None:
        if (round_number, client) == self.at:
            raise KeyboardInterrupt
