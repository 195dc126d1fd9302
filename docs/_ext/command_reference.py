"""Describe a command from its parser: ``{command} run``.

An argument without help stops the build.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence

from from_library import FromLibrary
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from fedmosaic.cli import build_parser


class Command(FromLibrary):
    """Say what a command does, how it is called, and what its arguments mean."""

    def markdown(self, name: str) -> Iterator[str]:
        parser = parser_of(name.split())
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        usage = textwrap.fill(usage, 90, subsequent_indent="    ", break_on_hyphens=False)
        yield f"{parser.description or ''}\n\n```text\n{usage}\n```\n"
        yield f"```{{program}} {parser.prog}\n```\n"
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
                yield argument(parser, action)


def parser_of(path: Sequence[str]) -> argparse.ArgumentParser:
    """Find the parser of ``fedmosaic <path>``."""
    parser = build_parser()
    for name in path:
        groups = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = next(groups).choices[name]
    return parser


def argument(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """Describe one argument.

    Raises:
        ExtensionError: it has no help.
    """
    value = action.metavar or (action.dest.upper() if action.nargs != 0 else "")
    names = ", ".join(f"{option} {value}".strip() for option in action.option_strings) or value
    if not action.help:
        raise ExtensionError(f"{parser.prog}: {names} has no help")
    text = action.help[0].upper() + action.help[1:].removesuffix(".") + "."
    choices = f" One of: {', '.join(map(str, action.choices))}." if action.choices else ""
    return f"````{{option}} {names}\n{text}{choices}\n````\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True}
