"""Carry out one run of a comparison in a process of its own.

The command is ``python -m fedmosaic.experiments.job``. The parent writes one line of JSON to
standard input, {"folder", "settings", "features"}; ``features`` is a file in which all jobs share
image features, or null. The parent keeps the pipe open. When the pipe closes, because the parent
was stopped or killed, this process ends at once: a run can be killed at any moment. Standard output
has one JSON object a line; what libraries print goes to standard error.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.errors import FedMosaicError
from fedmosaic.evaluation import Record
from fedmosaic.experiments.equal_compute import resolve_budget
from fedmosaic.federation.callbacks import Callback
from fedmosaic.federation.run import new_run, resume
from fedmosaic.memory import peak_memory
from fedmosaic.models.feature_database import FeatureDatabase
from fedmosaic.models.images import ImageFeatures

Send = Callable[[Mapping[str, Any]], None]
PARENT_GONE = 3


def perform(folder: Path, settings: RunSettings, callback: Callback) -> None:
    """Start the run, or resume it; start again where not even the settings were written."""
    if (folder / "config.yaml").is_file():
        resume(folder, callback, resolve_budget=resolve_budget)
        return
    if folder.exists():
        shutil.rmtree(folder)
    new_run(settings, folder, callback, resolve_budget=resolve_budget)


class Reporter(Callback):
    """Report every client turn and round to the parent, with this process's peak memory."""

    def __init__(self, send: Send) -> None:
        self.send = send

    def run_started(self, settings: RunSettings, first_round: int) -> None:
        self.clients = len(settings.scenario.clients)
        self.send({"rounds": first_round, "of": settings.scenario.rounds, "first": first_round})

    def round_started(self, round_number: int, clients: Sequence[str]) -> None:
        self.turns, self.expected = 0, max(len(clients), 1)

    def client_finished(self, round_number: int, client: str, report: Mapping[str, Any]) -> None:
        self.turns += 1
        self.send({"rounds": round_number + self.turns / self.expected, "memory": peak_memory()})

    def round_finished(
        self, round_number: int, entry: Mapping[str, Any], records: Sequence[Record]
    ) -> None:
        self.send({"rounds": round_number + 1, "memory": peak_memory()})


def _end_with_parent() -> None:
    # Not through sys.stdin: a waiting thread holds its lock, which blocks the interpreter's exit.
    while os.read(0, 1):
        pass
    os._exit(PARENT_GONE)


def main() -> int:
    """Carry out the run that one line of standard input describes."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if request["features"]:
        ImageFeatures.database = FeatureDatabase(Path(request["features"]))

    def send(event: Mapping[str, Any]) -> None:
        out.write(json.dumps(event) + "\n")

    try:
        perform(
            Path(request["folder"]), RunSettings.model_validate(request["settings"]), Reporter(send)
        )
    except FedMosaicError as error:
        send({"failed": str(error)})
        return 1
    except Exception as error:
        traceback.print_exc()
        send({"failed": f"{type(error).__name__}: {error}"})
        return 1
    send({"done": True})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
