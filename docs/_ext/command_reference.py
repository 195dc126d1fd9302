"""Describe a command from its parser: ``{command} run``.

An argument without help stops the build.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterator, Sequence

from from_library import FromLibrary
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

from fedmosaic.cli import build_parser

# Words of a help text that a user types or that name a file. They stand in code, as they are.
VALUES = [
    "cuda",
    "mps",
    "cpu",
    "float32",
    "bfloat16",
    "float16",
    "tensorboard",
    "wandb",
    "trackio",
    "mlflow",
    "miniature/public",
    "synthetic",
    "fedmosaic",
    "lora",
    "gradients",
    "runs/",
    "report.html",
    ".yaml",
    ".json",
    ".jsonl",
    ".txt",
    "0-4",
    "0,1,2",
]
CODE = re.compile(
    r"`[^`]*`"  # is code already
    r"|--[a-z][\w-]*"
    r"|[\w./-]*<\w+>[\w./-]*"  # a path with a placeholder
    r"|(?<=default: )(?:\d[\d,-]*|mean(?=,))"
    r"|(?<=mlflow or )none"
    r"|\[LABEL=\][^ ,]*|[\w.]+=[\w.-]+|sft,fedmosaic,\S+=\S+(?=;)"
    r"|(?<![\w./,-])(?:" + "|".join(map(re.escape, VALUES)) + r")(?![\w/-]|[.,]\w)"
)


class Command(FromLibrary):
    """Say what a command does, how it is called, and what its arguments mean."""

    def markdown(self, name: str) -> Iterator[str]:
        parser = parser_of(name.split())
        usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
        usage = textwrap.fill(usage, 90, subsequent_indent="    ", break_on_hyphens=False)
        yield sentence(parser.description) if parser.description else ""
        yield f"\n```text\n{usage}\n```\n"
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
    text = sentence(action.help)
    names_of_choices = ", ".join(f"`{choice}`" for choice in action.choices or ())
    choices = f" One of: {names_of_choices}." if action.choices else ""
    return f"````{{option}} {names}\n{text}{choices}\n````\n"


def sentence(text: str) -> str:
    """Make a sentence of a help text, with what a user types in code."""
    coded = CODE.sub(lambda found: f"`{found[0].strip('`')}`", text.removesuffix("."))
    return coded[0].upper() + coded[1:] + "."


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive."""
    app.add_directive("command", Command)
    return {"parallel_read_safe": True}
