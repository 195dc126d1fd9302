"""Implement ``fedmosaic compare``: run several algorithms with several seeds and compare them."""

from __future__ import annotations

import argparse

from fedmosaic.cli.options import add_overrides, add_quiet, add_scenario


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Run every algorithm with every seed, in parallel, and compare them. "
        "Repeat the command to continue after an interruption."
    )
    add_scenario(parser)
    parser.add_argument(
        "--algorithms",
        "-a",
        action="append",
        required=True,
        metavar="A,B,…",
        help="comma-separated algorithms, each [LABEL=]ALGORITHM[:KEY=VALUE…], "
        "e.g. sft,fedmosaic,fast=fedmosaic:train.lr=1e-2; repeatable",
    )
    parser.add_argument(
        "--seeds", "-s", default="0-2", metavar="S", help="seeds, as 0-4 or 0,1,2 (default: 0-2)"
    )
    add_overrides(parser, "train.lr=1e-3")
    _add_sweep(parser)
    parser.add_argument(
        "--out",
        "-o",
        metavar="DIR",
        help="folder of the comparison (default: runs/<scenario>-comparison)",
    )
    parser.add_argument(
        "--jobs",
        "-j",
        type=int,
        default=0,
        metavar="N",
        help="number of runs at a time (default: fits the machine)",
    )
    add_quiet(parser)


def _add_sweep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="choose the best of these values for every algorithm, on a validation split; "
        "repeatable",
    )
    parser.add_argument(
        "--sweep-by",
        choices=["mean", "self", "others"],
        default="mean",
        help="score that decides in a sweep (default: mean, of self and others)",
    )
    parser.add_argument(
        "--sweep-seeds", metavar="S", help="seeds of the runs of a sweep (default: 1000,1001)"
    )


def handle(arguments: argparse.Namespace) -> int:
    """Compare, print the tables, and return 1 if a run failed."""
    from fedmosaic import api
    from fedmosaic.experiments.variants import parse_choices, parse_seeds, parse_variants
    from fedmosaic.reporting.comparison import print_comparison

    seeds = arguments.sweep_seeds
    options = {"sweep_seeds": parse_seeds(seeds)} if seeds else {}
    comparison = api.compare(
        arguments.scenario,
        algorithms=parse_variants(arguments.algorithms),
        seeds=parse_seeds(arguments.seeds),
        overrides=arguments.overrides,
        sweep=parse_choices(arguments.sweep),
        sweep_by=arguments.sweep_by,
        out=arguments.out,
        jobs=arguments.jobs,
        progress=not arguments.quiet,
        **options,
    )
    print_comparison(comparison.result)
    print(f"comparison folder: {comparison.folder}")
    return 1 if comparison.failures else 0
