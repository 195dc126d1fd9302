"""Implement ``fedmosaic split``: write a simulation as the files of a deployment."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmosaic.cli.options import add_overrides, add_scenario


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Write a scenario as the files of a federation across machines: DIR/server.yaml for the "
        "server, and DIR/clients/NAME.yaml for each client."
    )
    parser.epilog = "Example: fedmosaic split miniature/quickstart --out quick"
    add_scenario(parser)
    parser.add_argument("--out", "-o", required=True, metavar="DIR", help="folder to make")
    add_overrides(parser, "rounds=3")


def handle(arguments: argparse.Namespace) -> None:
    """Write the files, and print what to type next."""
    import shlex

    from fedmosaic.config.load import load_scenario
    from fedmosaic.own_data.deployment_files import write_deployment

    scenario = load_scenario(arguments.scenario, arguments.overrides)
    made = write_deployment(arguments.scenario, scenario, Path(arguments.out))
    folder = Path(arguments.out)
    names = ",".join(made.clients)
    print(f"wrote {made.server} and {len(made.clients)} files in {folder / 'clients'}; next:")
    print(f"  {shlex.join(['fedmosaic', 'keys', f'{folder}/keys', '--clients', names])}")
    serve = ["fedmosaic", "server", str(made.server), "--keys", f"{folder}/keys"]
    print(f"  {shlex.join([*serve, '--out', f'{folder}/run'])}")
    print("and in a terminal, or on a machine, for each client:")
    for file in made.clients.values():
        print(f"  {shlex.join(['fedmosaic', 'client', str(file)])}")
