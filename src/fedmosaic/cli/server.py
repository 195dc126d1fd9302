"""Implement ``fedmosaic server``: serve a federation to clients on other machines."""

from __future__ import annotations

import argparse
import time

from fedmosaic.cli.options import add_overrides, add_quiet, add_scenario


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.epilog = (
        "A server that was stopped or killed goes on with the same command. Example: fedmosaic "
        "keys keys --clients a,b,c; fedmosaic server federation.yaml --keys keys --out run"
    )
    add_scenario(parser, optional=True)
    parser.add_argument(
        "--keys", "-k", metavar="DIR", help="folder of `fedmosaic keys`, or its part `server`"
    )
    parser.add_argument(
        "--listen",
        "-l",
        default="127.0.0.1:9092",
        metavar="HOST:PORT",
        help="where clients connect (default: 127.0.0.1:9092, this machine only; 0.0.0.0:9092 for "
        "all of its networks)",
    )
    parser.add_argument("--out", "-o", required=True, metavar="DIR", help="folder of the run")
    parser.add_argument(
        "--algorithm",
        "-a",
        default="fedmosaic",
        metavar="A",
        help="a name from `fedmosaic list algorithms` (default: fedmosaic)",
    )
    parser.add_argument(
        "--seed", "-s", type=int, default=0, metavar="S", help="seed of all draws (default: 0)"
    )
    add_overrides(parser, "deployment.round_seconds=600")
    parser.add_argument(
        "--insecure",
        action="store_true",
        help="plain text and no authentication, in place of --keys: for trials on one machine",
    )
    parser.add_argument(
        "--tracker",
        action="append",
        metavar="T",
        help="tensorboard (default), wandb, trackio, mlflow or none; repeatable",
    )
    add_quiet(parser)


def handle(arguments: argparse.Namespace) -> None:
    """Serve the federation, then print the table of the run."""
    from fedmosaic.api.deployment import serve
    from fedmosaic.cli.options import address
    from fedmosaic.errors import ConfigError
    from fedmosaic.reporting.summary import print_summary

    if bool(arguments.keys) == arguments.insecure:
        raise ConfigError("name the keys with --keys DIR (see fedmosaic keys), or say --insecure")
    options = {}
    if arguments.tracker:
        options["trackers"] = [name for name in arguments.tracker if name != "none"]
    run = serve(
        arguments.scenario,
        out=arguments.out,
        keys=arguments.keys,
        listen=address(arguments.listen, "--listen"),
        algorithm=arguments.algorithm,
        seed=arguments.seed,
        overrides=arguments.overrides,
        progress=not arguments.quiet,
        say=say,
        **options,
    )
    print_summary(run.summary)
    print(f"run folder: {run.folder}")


def say(line: str) -> None:
    """Print a line with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
