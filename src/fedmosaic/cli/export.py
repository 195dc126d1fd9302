"""Implement ``fedmosaic export``: write a client's adapter as a standard PEFT LoRA adapter."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("folder", metavar="DIR", help="a run folder")
    parser.add_argument("--client", required=True, metavar="NAME", help="name of the client")
    parser.add_argument(
        "--to", choices=["lora"], default="lora", help="format of the adapter (default: lora)"
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write, which must not exist"
    )


def handle(arguments: argparse.Namespace) -> None:
    """Write the adapter and say how to load it."""
    from fedmosaic import api

    folder = str(api.export(arguments.folder, arguments.client, arguments.out))
    print(f"wrote {folder}; load it with peft.PeftModel.from_pretrained(base_model, {folder!r})")
