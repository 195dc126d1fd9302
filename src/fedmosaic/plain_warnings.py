"""Write warnings of this package for people who use the command, not for its developers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Write warnings of this package as one line, without a place in its code."""
    whole, package = warnings.formatwarning, str(Path(__file__).parent)

    def plain(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if category is UserWarning and filename.startswith(package):
            return f"warning: {message}\n"
        return whole(message, category, filename, lineno, line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = whole
