"""Write a benchmark's table into a page, between the two marks that carry its name."""

from __future__ import annotations

from pathlib import Path

from benchmarks.common.paths import ROOT

PAGE = ROOT / "docs" / "results.md"


def write_between_marks(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- end of name -->``.

    Args:
        name: name of the table.
        text: the table in Markdown.
        page: file that holds the marks.

    Raises:
        ValueError: the page has no such marks.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, found, rest = page.read_text().partition(start)
    _, ended, after = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{page} has no {start} … {end}: add both marks where the table belongs")
    page.write_text(f"{before}{start}\n{text}\n{end}{after}")
