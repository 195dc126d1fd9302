"""Implement ``fedmosaic keys``: make the keys of a federation across machines."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmosaic.cli.options import names_in


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Make the keys by which the server and the clients of a federation recognise each other. "
        "DIR/server stays with the server; DIR/clients/NAME goes to that client alone."
    )
    parser.epilog = "Example: fedmosaic keys keys --clients a,b,c --host server.example.org"
    parser.add_argument("folder", metavar="DIR", help="folder to make, or one with keys")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--clients", metavar="NAMES", help="names of the clients, with commas")
    action.add_argument("--add", metavar="NAME", help="make a key for one more client")
    action.add_argument("--remove", metavar="NAME", help="let the server refuse this client's key")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        metavar="HOST",
        help="name or address by which clients reach the server; may be given several times "
        "(localhost and 127.0.0.1 always are)",
    )
    parser.add_argument(
        "--days", type=int, default=365, metavar="N", help="validity in days (default: 365)"
    )


def handle(arguments: argparse.Namespace) -> None:
    """Make keys, or add or remove a client, and say where they go."""
    from fedmosaic.distributed import keys

    folder = Path(arguments.folder)
    if arguments.remove:
        keys.remove_client(folder, arguments.remove)
        print(f"removed {arguments.remove}: a server that starts now refuses its key")
    elif arguments.add:
        print(f"give to {arguments.add} alone: {keys.add_client(folder, arguments.add)}")
    else:
        names = names_in(arguments.clients)
        keys.create_keys(folder, names, arguments.host, arguments.days)
        print(f"stays with the server: {folder / 'server'}")
        for name in names:
            print(f"give to {name} alone: {folder / 'clients' / name}")
