"""Read the figures of a comparison from its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedmosaic.config import renamed

RESULT = "comparison.json"


def read_comparison(folder: Path) -> dict[str, Any] | None:
    """Return the figures of a comparison with today's names of algorithms; None if there are none.

    Labels stay: they name folders.
    """
    path = folder / RESULT
    if not path.is_file():
        return None
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for row in result.get("algorithms", {}).values():
        row["algorithm"] = renamed.translate_algorithm(str(row["algorithm"]))
    for variant in result.get("variants", {}).values():
        variant[0] = renamed.translate_algorithm(str(variant[0]))
    return result
