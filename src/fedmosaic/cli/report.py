"""Implement ``fedmosaic report``: write a web page with the results of runs and comparisons."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Write one self-contained web page with the results of runs and comparisons. "
        "Runs of the same scenario are compared."
    )
    parser.add_argument(
        "folders", nargs="+", metavar="DIR", help="a run folder or a comparison folder"
    )
    parser.add_argument(
        "--out",
        "-o",
        metavar="FILE",
        help="the page (default: report.html in DIR, or in the current folder for several)",
    )
    parser.add_argument(
        "--export",
        metavar="DIR",
        help="folder for the figures (PNG, SVG) and the tables (CSV, Markdown, LaTeX)",
    )


def handle(arguments: argparse.Namespace) -> None:
    """Write the page, and the figures and tables if asked for."""
    from fedmosaic import api

    print(f"wrote {api.report(arguments.folders, out=arguments.out, export=arguments.export)}")
    if arguments.export:
        print(f"wrote figures and tables to {arguments.export}")
