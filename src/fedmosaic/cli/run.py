"""Implement ``fedmosaic run``: run a scenario, or continue an interrupted run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fedmosaic.cli.options import add_device, add_overrides, add_quiet, add_scenario

if TYPE_CHECKING:
    from fedmosaic.federation.run import Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_scenario(parser, optional=True)
    parser.add_argument(
        "--algorithm",
        "-a",
        metavar="A",
        help="a name from `fedmosaic list algorithms` (default: fedmosaic)",
    )
    parser.add_argument(
        "--seed", "-s", type=int, metavar="S", help="seed of all random draws (default: 0)"
    )
    parser.add_argument(
        "--rounds", "-r", type=int, metavar="R", help="number of rounds (default: the scenario's)"
    )
    add_overrides(parser, "train.lr=1e-3")
    parser.add_argument(
        "--out", "-o", metavar="DIR", help="folder of the run (default: a new one in runs/)"
    )
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="continue the run in DIR with the settings it was started with",
    )
    parser.add_argument(
        "--accept-data-change",
        action="store_true",
        help="with --resume: continue although the data has other content than at the start",
    )
    add_device(parser)
    _add_processes(parser)
    parser.add_argument(
        "--tracker",
        action="append",
        metavar="T",
        help="tensorboard (default), wandb, trackio, mlflow or none; repeatable",
    )
    add_quiet(parser)


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        "-w",
        type=int,
        metavar="N",
        help="number of processes that train clients (default: fits the machine)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="number of PyTorch threads in each process (default: fits the machine)",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "flower"),
        help="what runs these processes: fedmosaic (local, default), or Flower's simulation",
    )


def handle(arguments: argparse.Namespace) -> None:
    """Run or resume, then print the table of the run and its folder."""
    from fedmosaic.reporting.summary import print_summary

    finished = _resume(arguments) if arguments.resume else _run(arguments)
    print_summary(finished.summary)
    print(f"run folder: {finished.folder}")


def _resume(arguments: argparse.Namespace) -> Run:
    from fedmosaic import api
    from fedmosaic.errors import ConfigError

    names = ("scenario", "algorithm", "seed", "rounds", "out", "engine")
    given = [name for name in names if getattr(arguments, name) is not None]
    if given or arguments.overrides:
        raise ConfigError(
            "--resume takes all settings from the run folder; leave out "
            + ", ".join(given or ["--set"])
        )
    return api.resume(
        arguments.resume,
        accept_data_change=arguments.accept_data_change,
        progress=not arguments.quiet,
    )


def _run(arguments: argparse.Namespace) -> Run:
    from fedmosaic import api
    from fedmosaic.errors import ConfigError

    if arguments.accept_data_change:
        raise ConfigError("--accept-data-change goes with --resume: name the run to continue")
    if not arguments.scenario:
        raise ConfigError(
            "which scenario? `fedmosaic list scenarios` shows them; start with miniature/quickstart"
        )
    return api.run(
        arguments.scenario,
        algorithm=arguments.algorithm or "fedmosaic",
        seed=arguments.seed or 0,
        rounds=arguments.rounds,
        overrides=[*arguments.overrides, *_model_overrides(arguments)],
        out=arguments.out,
        progress=not arguments.quiet,
        **_run_settings(arguments),
    )


def _model_overrides(arguments: argparse.Namespace) -> list[str]:
    """Return the settings that ``--device`` and ``--dtype`` stand for."""
    given = {key: getattr(arguments, key) for key in ("device", "dtype")}
    return [f"models.{key}={value}" for key, value in given.items() if value]


def _run_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are settings of the run, not of its scenario."""
    given = {key: getattr(arguments, key) for key in ("workers", "threads", "engine")}
    settings = {key: value for key, value in given.items() if value is not None}
    if arguments.tracker:
        settings["trackers"] = [name for name in arguments.tracker if name != "none"]
    return settings
