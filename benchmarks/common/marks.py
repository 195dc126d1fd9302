"""Puts a benchmark's table into the README, between the marks that carry its name."""

from __future__ import annotations

from benchmarks.common.paths import ROOT

README = ROOT / "README.md"


def put(name: str, text: str) -> None:
    """Between ``<!-- name -->`` and ``<!-- end of name -->``, in place of what stands there. Raises ValueError without these marks."""
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = README.read_text().partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{README} has no {start} … {end}")
    README.write_text(f"{before}{start}\n{text}\n{end}{after}")
