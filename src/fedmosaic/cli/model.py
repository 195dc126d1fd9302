"""Implement ``fedmosaic model``: check whether models can be trained here."""

from __future__ import annotations

import argparse

from fedmosaic.cli.options import add_device, add_overrides, add_quiet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    summary = "Check in seconds whether models can be trained here, and what is adapted."
    check = actions.add_parser("check", help=summary, description=summary)
    check.description = (
        "Load each model, compare token ids and loss with plain transformers, take one training "
        "step, and load the export in plain PEFT. The exit status is 1 if something is wrong."
    )
    check.add_argument(
        "models",
        nargs="+",
        metavar="NAME",
        help="a name from `fedmosaic list models`, a folder, a .gguf file or a Hugging Face id",
    )
    check.add_argument(
        "--data",
        metavar="FILE",
        help="check with the items of this .json, .jsonl or .txt file (default: a few made items)",
    )
    check.add_argument(
        "--root",
        metavar="DIR",
        help="folder that image paths start from, as data.root of a scenario (default: this one)",
    )
    check.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="number of items of the file, from its beginning (default: 8)",
    )
    check.add_argument(
        "--json",
        action="store_true",
        help="print what was found as JSON: an object, or a list for several models",
    )
    check.add_argument(
        "--trust-remote-code",
        action="store_true",
        help="run Python code that comes with a model, with your rights",
    )
    add_overrides(check, "adapter.num_blocks=2 or models.quantise=4bit")
    add_device(check)
    add_quiet(check)


def handle(arguments: argparse.Namespace) -> int:
    """Check, print what was found, and return 1 if something is wrong."""
    import contextlib
    import json
    import sys

    from fedmosaic import api
    from fedmosaic.reporting.model_check import print_checks

    given = {
        "models.device": arguments.device,
        "models.dtype": arguments.dtype,
        "models.trust_remote_code": "true" if arguments.trust_remote_code else None,
    }
    with contextlib.redirect_stdout(sys.stderr):  # code of a model may print
        found = api.check_models(
            arguments.models,
            data=arguments.data,
            root=arguments.root,
            limit=arguments.limit,
            overrides=[*arguments.overrides, *(f"{k}={v}" for k, v in given.items() if v)],
            progress=not arguments.quiet,
        )
    if arguments.json:
        content = [one.to_json() for one in found]
        print(json.dumps(content[0] if len(content) == 1 else content, ensure_ascii=False))
    else:
        print_checks(found)
    return 1 if any(one.problems for one in found) else 0
