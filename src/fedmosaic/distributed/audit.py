"""Read the log of what has left a site."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmosaic.config import RunSettings
from fedmosaic.config.base import RECORDED
from fedmosaic.errors import CheckpointError
from fedmosaic.federation.privacy_statement import privacy_statement

LOG = "audit.jsonl"


def read_audit(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a site's log, see :class:`fedmosaic.distributed.outgoing.Outgoing`.

    Raises:
        CheckpointError: there is no log, or it is damaged.
    """
    path = folder / LOG
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is no folder of a client: it has no {LOG}. Name the --out of "
            "`fedmosaic client`"
        )
    text = path.read_text(encoding="utf-8")
    complete = text[: text.rfind("\n") + 1]
    try:
        return [json.loads(line) for line in complete.splitlines()]
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error


def privacy_of(folder: Path, lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what privacy each run of a site gives what it published, by the id of the run."""
    found = {}
    signatures, prototypes = published(lines, "signature"), published(lines, "prototypes")
    for session in dict.fromkeys([*signatures, *prototypes]):
        path = folder / "sessions" / session / "shared.json"
        if path.is_file():
            shared = json.loads(path.read_text(encoding="utf-8"))["shared"]["settings"]
            scenario = {**shared["scenario"], "clients": [{"name": "own"}]}
            settings = RunSettings.model_validate(
                {**shared, "scenario": scenario}, context=RECORDED
            )
            sent, shown = signatures.get(session, 0), prototypes.get(session, 0)
            own = "this client"
            stated = privacy_statement(settings, {own: sent}, {own: shown}, secret=True)
            if stated is not None:
                found[session] = stated
    return found


def published(lines: Sequence[Mapping[str, Any]], group: str) -> dict[str, int]:
    """Count the different tensors of a group that left, by the run's id.

    One that left twice says nothing new, and zeros, which stand for prototypes before there are
    any, say nothing.

    Args:
        lines: of the log.
        group: ``signature`` or ``prototypes``.
    """
    seen = {
        (line["session"], tensor["sha256"])
        for line in lines
        for tensor in line["tensors"]
        if tensor["group"] == group and (tensor["norm"] > 0 or group != "prototypes")
    }
    return dict(Counter(session for session, _ in seen))
