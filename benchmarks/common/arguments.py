"""Build the argument parser of a benchmark from the docstring of its module."""

from __future__ import annotations

import argparse
from pathlib import Path


def benchmark_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser whose ``--help`` shows the docstring as it is written."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_run_arguments(
    parser: argparse.ArgumentParser, runs: str, *, jobs: int, table: bool = True
) -> None:
    """Add ``--runs``, ``--jobs`` and, if wanted, ``--table``.

    Args:
        parser: parser to extend.
        runs: default folder of the comparison.
        jobs: default number of runs at a time; 0 lets the comparison choose.
        table: whether the result can be written from finished runs alone.
    """
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path(runs),
        help="folder of the comparison (default: %(default)s)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=jobs,
        help="runs at a time (default: %(default)s)" + ("" if jobs else "; 0: chosen by the cores"),
    )
    if table:
        parser.add_argument(
            "--table", action="store_true", help="only write the result, from the finished runs"
        )
