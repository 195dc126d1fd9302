"""Define the options that several commands share."""

from __future__ import annotations

import argparse


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """Add ``--quiet``."""
    parser.add_argument(
        "--quiet", "-q", action="store_true", help="show no progress, only the final tables"
    )


def add_overrides(parser: argparse.ArgumentParser, example: str) -> None:
    """Add ``--set KEY=VALUE``, which is stored as ``overrides``.

    Args:
        parser: the parser of the command.
        example: a setting that the help shows.
    """
    parser.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"change one setting, e.g. {example}; repeatable",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device`` and ``--dtype``."""
    parser.add_argument(
        "--device", metavar="D", help="cuda, mps or cpu (default: the fastest one available)"
    )
    parser.add_argument(
        "--dtype", metavar="T", help="float32, bfloat16 or float16 (default: fits the device)"
    )


def add_scenario(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """Add the positional argument ``scenario``."""
    parser.add_argument(
        "scenario",
        nargs="?" if optional else None,
        help="a name from `fedmosaic list scenarios`, or the path of a .yaml or .json file",
    )


def add_client(parser: argparse.ArgumentParser) -> None:
    """Add what names a trained client: a run folder and ``--client``, or a client's own file."""
    parser.add_argument(
        "source",
        metavar="RUN",
        help="a run folder; or, at the site of a client that took part in a federation across "
        "machines, the client's file",
    )
    parser.add_argument(
        "--client", metavar="NAME", help="name of the client (needed with a run folder)"
    )


def names_in(text: str) -> list[str]:
    """Split a comma-separated list of names; an empty text gives an empty list."""
    return [name for name in text.split(",") if name]


def address(text: str, option: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``.

    Raises:
        ConfigError: it is no address.
    """
    from fedmosaic.errors import ConfigError

    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit() and int(port) < 1 << 16):
        raise ConfigError(f"{option}: {text!r} is not HOST:PORT, such as 0.0.0.0:9092")
    return host.strip("[]"), int(port)
