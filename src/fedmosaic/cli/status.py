"""Implement ``fedmosaic status``: show how a federation stands, and eject a client."""

from __future__ import annotations

import argparse
import time


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = "Example: fedmosaic status run --watch"
    parser.add_argument("folder", metavar="DIR", help="--out of `fedmosaic server`")
    parser.add_argument("--watch", "-w", action="store_true", help="show it anew every 2 seconds")
    parser.add_argument("--json", action="store_true", help="print it for programs")
    parser.add_argument("--eject", metavar="NAME", help="let a client take part no more")
    parser.add_argument(
        "--reason", default="by the operator", metavar="TEXT", help="with --eject: why"
    )


def handle(arguments: argparse.Namespace) -> None:
    """Print the status once, or until Ctrl-C."""
    import json
    from dataclasses import asdict
    from pathlib import Path

    from fedmosaic.distributed.server_record import eject
    from fedmosaic.distributed.status import read_status
    from fedmosaic.reporting.deployment import print_status

    folder = Path(arguments.folder)
    if arguments.eject:
        eject(folder, arguments.eject, arguments.reason)
        print(f"{arguments.eject} is ejected when the server next looks, within a second")
        return
    while True:
        found = read_status(folder)
        if arguments.json:
            print(json.dumps(asdict(found)))
        else:
            print_status(found, clear=arguments.watch)
        if not arguments.watch or found.state == "finished":
            return
        time.sleep(2.0)
