"""Implement ``fedmosaic data check``: list everything that is wrong with data."""

from __future__ import annotations

import argparse

from fedmosaic.cli.options import add_quiet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this action."""
    parser.description = (
        "Read every item and image, and list all faults: items that cannot be read, images that "
        "are missing or cut short, items that a client's model cannot take. Count items, images, "
        "answers, tokens and duplicates. The exit status is 1 if there are faults."
    )
    parser.add_argument(
        "source",
        metavar="SCENARIO|FILE|TASK",
        help="a scenario (all tasks, with the models of its clients that are on this machine), "
        "a data file or folder, or the name of a task",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="folder that paths start from (default: data.root of the scenario, or this one)",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="M",
        dest="models",
        help="check the items for this model; repeat it for several (default: those of the "
        "scenario's clients)",
    )
    parser.add_argument(
        "--limit-faults",
        type=int,
        default=None,
        metavar="N",
        help="print at most N faults; 0 prints all (default: 50). --json has all",
    )
    parser.add_argument(
        "--json", action="store_true", help="print what was found as one JSON object"
    )
    add_quiet(parser)


def handle(arguments: argparse.Namespace) -> int:
    """Check, print what was found, and return 1 if something is wrong."""
    import contextlib
    import json
    import sys

    from fedmosaic import api
    from fedmosaic.errors import ConfigError
    from fedmosaic.reporting.data_check import FAULTS_SHOWN, print_checked_data

    limit = FAULTS_SHOWN if arguments.limit_faults is None else arguments.limit_faults
    if limit < 0:
        raise ConfigError(f"--limit-faults is {limit}; it must be 0 (all) or more")
    with contextlib.redirect_stdout(sys.stderr):  # code of a model may print
        found = api.check_data(
            arguments.source,
            root=arguments.root,
            models=arguments.models,
            progress=not arguments.quiet,
        )
    if arguments.json:
        print(json.dumps(found.to_json(), ensure_ascii=False))
    else:
        print_checked_data(found, limit)
    return 1 if found.faults else 0
