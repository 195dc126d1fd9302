"""Make the links of a page work in the repository and on the site."""

from __future__ import annotations

import re
from pathlib import Path

from sphinx.application import Sphinx

# Files outside docs/ that pages link to, and the pages that show them on the site.
SHOWN = {
    r"(?:\.\./)+benchmarks/results/([\w-]+)\.md": r"tables/\1.md",
    r"(?:\.\./)+benchmarks/README\.md": "reproducing.md",
    r"(?:\.\./)+CONTRIBUTING\.md": "contributing.md",
    r"(?:\.\./)+CHANGELOG\.md": "changelog.md",
}


def read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Turn links to files outside ``docs/`` into links to the pages that show them."""
    text, up = source[0], "../" * docname.count("/")
    for pattern, page in SHOWN.items():
        text = re.sub(rf"(?<=\]\(){pattern}", lambda m, page=page: up + m.expand(page), text)
    source[0] = whole_figures(text)


def read_included(app: Sphinx, path: Path, docname: str, content: list[str]) -> None:
    """Turn links from the repository's root into links from ``docs/``."""
    content[0] = whole_figures(re.sub(r"(?<=\]\()docs/", "", content[0]))


def whole_figures(text: str) -> str:
    """Keep ``56.2 ± 0.9`` on one line."""
    return re.sub(r"(?<=\d) ± (?=\d)", "\u00a0±\u00a0", text)


def setup(app: Sphinx) -> dict[str, bool]:
    """Follow the reading of pages."""
    app.connect("source-read", read_page)
    app.connect("include-read", read_included)
    return {"parallel_read_safe": True}
