"""Implement ``fedmosaic init``: make a federation of one's own data."""

from __future__ import annotations

import argparse

from fedmosaic.cli.options import names_in


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Divide the items of a file or a folder among clients, and write each client's items and "
        "a commented scenario. Pictures are not copied."
    )
    parser.epilog = (
        "Example: fedmosaic init birds --data birds.json --clients 3 --split dirichlet:0.3 "
        "--models miniature/llama-8x96,miniature/qwen2-10x112"
    )
    parser.add_argument(
        "folder", metavar="DIR", help="folder to make, which must not exist, or be empty"
    )
    parser.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="a file (JSON, JSON Lines, CSV, Parquet) or a folder, with or without test items",
    )
    _add_division(parser)
    parser.add_argument("--title", default="", metavar="T", help="one line that names the scenario")
    parser.add_argument(
        "--root", metavar="DIR", help="folder that image paths may start from (default: this one)"
    )


def _add_division(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how items are divided, and among whom."""
    parser.add_argument(
        "--clients",
        metavar="N|NAMES",
        help="number of clients, or their names separated by commas (default, only with "
        "by:COLUMN: one for each value)",
    )
    parser.add_argument(
        "--split",
        default="iid",
        metavar="RULE",
        help="iid: at random (default). dirichlet:ALPHA[:COLUMN]: skewed by the right option, or "
        "by the values of a field; small ALPHA, few labels a client. by:COLUMN: by the values of a "
        "field",
    )
    parser.add_argument(
        "--models",
        required=True,
        metavar="M[,M...]",
        help="model of all clients, or several, which the clients have in turn",
    )
    parser.add_argument(
        "--seed", "-s", type=int, default=0, metavar="S", help="seed of all draws (default: 0)"
    )
    parser.add_argument(
        "--test",
        type=float,
        metavar="SHARE",
        help="share of each client's items that is held out for testing, where the data has no "
        "test items (default: 0.2)",
    )
    parser.add_argument(
        "--public",
        type=float,
        metavar="SHARE",
        help="share of the training items that every client may see (default: none)",
    )


def handle(arguments: argparse.Namespace) -> None:
    """Make the federation, and print how items were divided and what to type next."""
    import shlex
    import sys

    from fedmosaic import api
    from fedmosaic.reporting.division import print_division

    made = api.init(
        arguments.folder,
        data=arguments.data,
        models=names_in(arguments.models),
        clients=_clients(arguments.clients),
        split=arguments.split,
        seed=arguments.seed,
        test=arguments.test,
        public=arguments.public,
        title=arguments.title,
        root=arguments.root,
    )
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    print_division(made)
    scenario = shlex.quote(str(made.scenario))
    print(f"\nwrote {scenario}; next:")
    print(f"  fedmosaic data check {scenario}\n  fedmosaic run {scenario}")


def _clients(text: str | None) -> int | list[str] | None:
    """Return the number of clients that a text gives, or their names."""
    if text is None:
        return None
    return int(text) if text.lstrip("-").isdecimal() else [n.strip() for n in names_in(text)]
