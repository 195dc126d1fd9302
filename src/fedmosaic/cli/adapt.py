"""Implement ``fedmosaic adapt``: measure how fast the clients of finished runs learn new tasks."""

from __future__ import annotations

import argparse

from fedmosaic.cli.options import add_quiet, names_in


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Train the clients of finished runs on tasks that no client has seen, and measure their "
        "score on the way. Repeat the command to continue after an interruption."
    )
    parser.add_argument("folders", nargs="+", metavar="DIR", help="a run folder")
    parser.add_argument(
        "--tasks",
        default="",
        metavar="A,B,…",
        help="names of the new tasks (default: the scenario's unseen tasks)",
    )
    parser.add_argument(
        "--clients", default="", metavar="A,B,…", help="names of the clients (default: all)"
    )
    parser.add_argument(
        "--every",
        type=int,
        default=10,
        metavar="N",
        help="local steps between two measurements (default: 10)",
    )
    parser.add_argument(
        "--points",
        type=int,
        default=5,
        metavar="N",
        help="number of measurements after the first (default: 5)",
    )
    parser.add_argument(
        "--items", type=int, metavar="N", help="test examples of each task (default: all)"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="also measure clients that start with a new adapter"
    )
    parser.add_argument(
        "--received",
        action="store_true",
        help="also measure clients that start with what the server would send next",
    )
    add_quiet(parser)


def handle(arguments: argparse.Namespace) -> None:
    """Measure every run, then print the mean curves."""
    from fedmosaic import api
    from fedmosaic.reporting.adaptation import print_adaptations, print_curve

    measured = {
        folder: api.adapt(
            folder,
            tasks=names_in(arguments.tasks),
            clients=names_in(arguments.clients),
            every=arguments.every,
            points=arguments.points,
            items=arguments.items,
            fresh=arguments.fresh,
            received=arguments.received,
            on_result=None if arguments.quiet else print_curve,
        )
        for folder in arguments.folders
    }
    print_adaptations(measured)
