"""Implement ``fedmosaic list``: list algorithms, scenarios, models or datasets."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument(
        "kind", choices=["algorithms", "scenarios", "models", "datasets"], help="what to list"
    )
    parser.add_argument("--json", action="store_true", help="print the list as JSON")


def handle(arguments: argparse.Namespace) -> None:
    """Print one list."""
    from fedmosaic.reporting.listings import print_listing

    print_listing(arguments.kind, as_json=arguments.json)
