"""Implement ``fedmosaic show``: print the table of a run or of a comparison."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Print the table of a run or of a comparison. "
        "An unfinished run is shown as far as it has been measured."
    )
    parser.add_argument("folder", metavar="DIR", help="a run folder or a comparison folder")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")


def handle(arguments: argparse.Namespace) -> None:
    """Print the results in a folder."""
    import json

    from fedmosaic import api
    from fedmosaic.reporting.comparison import print_comparison
    from fedmosaic.reporting.summary import print_summary

    summary = api.show(arguments.folder)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    elif "algorithms" in summary:
        print_comparison(summary)
    else:
        print_summary(summary)
