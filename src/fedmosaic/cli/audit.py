"""Implement ``fedmosaic audit``: list what has left a client's machine."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = "Example: fedmosaic audit hospital"
    parser.add_argument("folder", metavar="DIR", help="--out of `fedmosaic client`")
    parser.add_argument("--tensors", action="store_true", help="list every tensor, too")
    parser.add_argument("--json", action="store_true", help="print the log for programs")


def handle(arguments: argparse.Namespace) -> None:
    """Print what left, message by message."""
    from pathlib import Path

    from fedmosaic.distributed.audit import privacy_of, read_audit
    from fedmosaic.reporting.deployment import print_audit

    folder = Path(arguments.folder)
    lines = read_audit(folder)
    if arguments.json:
        import json

        print("\n".join(json.dumps(line) for line in lines))
        return
    print_audit(lines, privacy_of(folder, lines), tensors=arguments.tensors)
