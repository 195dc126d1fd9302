"""Implement ``fedmosaic data``: get data, and look at it before training.

Each action has a file of its own in this folder, like the commands.
"""

from __future__ import annotations

import argparse
from importlib import import_module

# Name of an action, which is also its module in this package, and what it does.
ACTIONS = {
    "check": "List everything that is wrong with the data of a scenario, a file or a task.",
    "show": "Print what a run would learn from a file or a task.",
    "download": "Download DRAKE or HFLB, the paper's benchmarks, or some of their data sets.",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of this command with their arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, summary in ACTIONS.items():
        module = import_module(f"{__name__}.{name}")
        action = actions.add_parser(name, help=summary, description=summary)
        module.add_arguments(action)
        action.set_defaults(handle_action=module.handle)


def handle(arguments: argparse.Namespace) -> int:
    """Carry out the action and return its exit status."""
    return int(arguments.handle_action(arguments) or 0)
