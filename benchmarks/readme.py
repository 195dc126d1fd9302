"""Puts a benchmark's table into the README, between the marks that carry its name."""

from __future__ import annotations

from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def put(name: str, text: str) -> None:
    """Between ``<!-- name -->`` and ``<!-- end of name -->``, in place of what stands there."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, _, rest = README.read_text().partition(start)
    _, _, after = rest.partition(end)
    README.write_text(f"{before}{start}\n{text}\n{end}{after}")
