"""Implement ``fedmosaic client``: take part in a federation with one's own data and model."""

from __future__ import annotations

import argparse
from typing import Any

from fedmosaic.cli.options import add_overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = (
        "A client that was stopped or killed goes on with the same command. Its folder has "
        "audit.jsonl, which lists everything that left this machine (fedmosaic audit DIR). "
        "Example: fedmosaic client hospital.yaml --server server.example.org:9092 --keys hospital"
    )
    parser.add_argument(
        "file",
        nargs="?",
        metavar="FILE",
        help="YAML file of this client; options replace its settings",
    )
    parser.add_argument("--name", "-n", metavar="NAME", help="name of this client")
    parser.add_argument(
        "--model", "-m", metavar="M", help="a bundled model, one of the Hugging Face hub, or a path"
    )
    parser.add_argument(
        "--data",
        "-d",
        action="append",
        metavar="TASK",
        help="a private task, by name or file; repeatable",
    )
    parser.add_argument("--server", metavar="HOST:PORT", help="address of the server")
    parser.add_argument("--keys", "-k", metavar="DIR", help="folder with this client's keys")
    parser.add_argument(
        "--out", "-o", metavar="DIR", help="folder of this client (default: its name)"
    )
    parser.add_argument(
        "--insecure", action="store_true", help="plain text and no keys, as the server's"
    )
    add_overrides(parser, "models.device=cuda")


def handle(arguments: argparse.Namespace) -> None:
    """Take part until the federation has finished."""
    from fedmosaic.api.deployment import take_part
    from fedmosaic.cli.server import say
    from fedmosaic.config.site_file import load_site

    names = ("name", "model", "server", "keys", "out")
    options: dict[str, Any] = {
        name: value for name in names if (value := getattr(arguments, name)) is not None
    }
    if arguments.data:
        options["tasks"] = arguments.data
    site = load_site(arguments.file, options, arguments.overrides)
    folder = take_part(site, insecure=arguments.insecure, say=say)
    print(f"adapter: {folder / 'adapter'}")
    if arguments.file is not None:
        print(f"to ask the client: fedmosaic predict {arguments.file} --prompt TEXT")
        print(f"to export its adapter: fedmosaic export {arguments.file} --out DIR")
    print(f"what left this machine: fedmosaic audit {folder}")
