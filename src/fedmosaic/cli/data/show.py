"""Implement ``fedmosaic data show``: print what a run would learn from a file or a task."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this action."""
    parser.add_argument(
        "source",
        metavar="FILE|TASK",
        help="a data file or folder, or the name of a task, e.g. miniature/icon-0",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="folder that paths start from, as data.root of a scenario (default: this one)",
    )
    parser.add_argument(
        "--split",
        choices=["train", "test"],
        help="only the items that a run trains on, or is tested on (default: all items)",
    )
    parser.add_argument("--limit", type=int, metavar="N", help="the first N items (default: all)")
    parser.add_argument(
        "--model",
        metavar="M",
        help="show the tokens of this model too: a name, a folder, a .gguf file or a hub id",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, for programs"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page with the pictures")


def handle(arguments: argparse.Namespace) -> int:
    """Print the items, and on standard error what the reader has to say about them."""
    import json
    import sys
    from pathlib import Path

    from fedmosaic import api

    found = api.show_data(
        arguments.source,
        root=arguments.root,
        split=arguments.split,
        limit=arguments.limit,
        model=arguments.model,
    )
    # All pictures are read before the first line is printed, so that an error stands for itself.
    lines = [json.dumps(item.to_json(), ensure_ascii=False) for item in found.items]
    for note in found.notes:
        print(f"note: {note}", file=sys.stderr)
    if arguments.json:
        print("\n".join(lines))
    elif arguments.html is None:
        from fedmosaic.reporting.data_items import print_items

        print_items(found.items)
    if arguments.html is not None:
        from fedmosaic.reporting.html.data_page import write_items

        print(
            f"wrote {write_items(found.items, found.notes, Path(arguments.html))}", file=sys.stderr
        )
    return 0
