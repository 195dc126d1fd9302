"""Provide the ``fedmosaic`` command: parse the arguments, call the library, print the result.

Each command has a file of its own with two functions, ``add_arguments(parser)`` and
``handle(arguments)``. These files import the library inside ``handle``, so that ``--help`` does not
wait for PyTorch.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from fedmosaic import __version__
from fedmosaic.plain_warnings import plain_warnings

# Name of a command, which is also its module in this package, and what it does.
COMMANDS = {
    "init": "Make a federation of your own data: divide it among clients, and write a scenario.",
    "run": "Run a scenario, or continue an interrupted run.",
    "compare": "Run several algorithms with several seeds and compare them.",
    "show": "Print the table of a run or of a comparison.",
    "report": "Write a web page with the results of runs and comparisons.",
    "adapt": "Measure how fast the clients of finished runs learn new tasks.",
    "list": "List algorithms, scenarios, models or datasets.",
    "predict": "Answer an input as a client of a run would.",
    "export": "Write a client's adapter as a standard PEFT LoRA adapter.",
    "data": "Get data, show what a run would learn from it, and check it.",
    "model": "Check whether models can be trained here.",
    "split": "Write a simulation as the files of a federation across machines.",
    "keys": "Make the keys of a federation across machines.",
    "server": "Serve a federation to clients on other machines.",
    "client": "Take part in a federation with your own data and model.",
    "status": "Show how a served federation stands, or eject a client.",
    "audit": "List what has left a client's machine.",
    "align": "Align the frozen A and B matrices of several models.",
    "miniature": "Rebuild the small models that come with the library.",
}
EPILOG = (
    "Exit status: 0 on success; 1 if some runs of a comparison failed, or a model has a problem; "
    "2 for a mistake in the command, a file or the settings; 130 after Ctrl-C. Start with: "
    "fedmosaic run miniature/quickstart"
)


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of the whole command line, without importing PyTorch."""
    parser = argparse.ArgumentParser(
        prog="fedmosaic",
        description="Personalised federated learning of heterogeneous vision-language models.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", "-V", action="version", version=f"fedmosaic {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        module = import_module(f"{__name__}.{name}")
        command = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(command)
        command.set_defaults(handle=module.handle)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and print errors as one line on standard error.

    Args:
        argv: the arguments after ``fedmosaic``; by default those of the process.

    Returns:
        The exit status: 0 on success; 1 if some runs of a comparison failed, or a checked model
        has a problem; 2 for an error that the user can correct; 130 after Ctrl-C.
    """
    arguments = build_parser().parse_args(argv)
    from fedmosaic.errors import FedMosaicError, Interrupted

    try:
        with plain_warnings():
            return int(arguments.handle(arguments) or 0)
    except FedMosaicError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # The reader of our output (head, less) has closed it. Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        place = f": {error.filename}" if error.filename else ""
        return _fail(f"{error.strerror or error}{place}")
    except Interrupted as stop:
        print(f"\ninterrupted; continue with: {stop.resume_command}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def entry() -> None:
    """Run the command as the console script and exit with its status."""
    sys.exit(main())


def _fail(message: str) -> int:
    print(f"fedmosaic: {message}", file=sys.stderr)
    return 2
