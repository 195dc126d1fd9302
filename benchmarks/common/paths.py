"""Name the places that benchmarks read and write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"


def read_result(name: str) -> Any:
    """Return the content of ``results/<name>.json``."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def write_result(name: str, content: Any, page: str | None = None, *, indent: int = 1) -> None:
    """Write ``results/<name>.json`` and, where a page is given, ``results/<name>.md``."""
    path = RESULTS / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=indent) + "\n")
    if page is not None:
        path.with_suffix(".md").write_text(page)
