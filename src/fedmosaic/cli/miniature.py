"""Implement ``fedmosaic miniature``: rebuild the small models that come with the library."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    summary = "Train the bundled models again from a seed."
    pretrain = actions.add_parser("pretrain", help=summary, description=summary)
    pretrain.add_argument(
        "--out", required=True, metavar="DIR", help="folder that receives one folder for each model"
    )
    pretrain.add_argument(
        "--seed", type=int, default=0, metavar="S", help="seed of all random draws (default: 0)"
    )
    pretrain.add_argument(
        "--model", action="append", metavar="NAME", help="train only this model; repeatable"
    )


def handle(arguments: argparse.Namespace) -> None:
    """Train the models and print their folders."""
    from pathlib import Path

    from fedmosaic.miniature.pretraining.pretrain import pretrain

    for folder in pretrain(Path(arguments.out), seed=arguments.seed, names=arguments.model):
        print(f"wrote {folder}")
