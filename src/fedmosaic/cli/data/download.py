"""Implement ``fedmosaic data download``: get DRAKE or HFLB from the Hugging Face Hub."""

from __future__ import annotations

import argparse

from fedmosaic.cli.options import add_quiet, names_in


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this action."""
    parser.description = (
        "Download and unpack the data sets of a benchmark that are not there yet. Repeat the "
        "command to continue after an interruption. The sources' licences apply: --list."
    )
    parser.add_argument("benchmark", metavar="BENCHMARK", help="drake or hflb")
    parser.add_argument(
        "--only",
        default="",
        metavar="A,B,…",
        help="names of data sets, e.g. VSR,NLVR2 (default: all that the Hub has)",
    )
    parser.add_argument(
        "--to",
        metavar="DIR",
        help="folder of the data sets, data.root of a scenario (default: data/DRAKE or data/HFLB)",
    )
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="address of a mirror of the Hub (default: the variable HF_ENDPOINT, else the Hub)",
    )
    parser.add_argument(
        "--list",
        action="store_true",
        help="show the data sets, which of them are there, and their licences; download nothing",
    )
    parser.add_argument("--json", action="store_true", help="print what is there as JSON")
    add_quiet(parser)


def handle(arguments: argparse.Namespace) -> None:
    """Download, or list, and print what is there."""
    from pathlib import Path

    from fedmosaic.data.download import download, list_data_sets
    from fedmosaic.data.sources import benchmark
    from fedmosaic.reporting.downloads import DownloadProgress, print_data_sets

    chosen = benchmark(arguments.benchmark)
    root = Path(arguments.to).expanduser() if arguments.to else chosen.root
    names, problem = names_in(arguments.only), ""
    if arguments.list:
        states, problem = list_data_sets(chosen, root, names, arguments.endpoint)
    else:
        with DownloadProgress(quiet=arguments.quiet) as progress:
            states = download(chosen, root, names, arguments.endpoint, progress.of)
    print_data_sets(states, chosen, root, note=problem, as_json=arguments.json)
