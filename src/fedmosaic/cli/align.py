"""Implement ``fedmosaic align``: align the frozen A and B matrices of several models."""

from __future__ import annotations

import argparse

from fedmosaic.cli.options import add_device, add_overrides, add_quiet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Align the frozen A and B matrices of several models to those of a pivot model, "
        "on public data."
    )
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="a name, a folder or a Hugging Face id"
    )
    parser.add_argument(
        "--pivot",
        "-p",
        required=True,
        metavar="MODEL",
        help="the model that the others are aligned to, usually the smallest",
    )
    parser.add_argument(
        "--public",
        default="miniature/public",
        metavar="DATA",
        help="miniature/public (default), synthetic, or a .json, .jsonl or .txt file",
    )
    parser.add_argument(
        "--size",
        "-n",
        type=int,
        default=256,
        metavar="N",
        help="number of public examples (default: 256)",
    )
    parser.add_argument(
        "--out",
        "-o",
        required=True,
        metavar="DIR",
        help="folder for the alignment and the heat map of each model",
    )
    _add_method(parser)
    parser.add_argument(
        "--seed",
        "-s",
        type=int,
        default=0,
        metavar="S",
        help="seed of all random draws (default: 0)",
    )
    add_overrides(parser, "r=64 (names without a section)")
    add_device(parser)
    add_quiet(parser)


def _add_method(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--method", metavar="M", help="what B is fitted to without --refine (default: gradients)"
    )
    parser.add_argument(
        "--refine",
        action="store_true",
        help="refine A and B jointly on many public pseudo-tasks, which takes minutes",
    )
    parser.add_argument(
        "--join",
        metavar="DIR",
        help="refine these models to the alignments in DIR, which stay as they are",
    )


def handle(arguments: argparse.Namespace) -> None:
    """Align, write one file a model, and print a table of each."""
    from fedmosaic import api
    from fedmosaic.reporting.alignment import print_alignments

    given = {name: getattr(arguments, name) for name in ("method", "refine", "join")}
    alignments = api.align(
        arguments.models,
        pivot=arguments.pivot,
        public=arguments.public,
        size=arguments.size,
        seed=arguments.seed,
        out=arguments.out,
        device=arguments.device or "auto",
        dtype=arguments.dtype or "auto",
        overrides=arguments.overrides,
        progress=not arguments.quiet,
        **{name: value for name, value in given.items() if value},
    )
    print_alignments(alignments)
    count = len(alignments)
    print(f"wrote {count} alignment{'' if count == 1 else 's'} to {arguments.out}")
