"""Implement ``fedmosaic predict``: answer an input as a client of a run would."""

from __future__ import annotations

import argparse

from fedmosaic.cli.options import add_client, add_quiet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.description = (
        "Answer an input, or the items of a file, with the model that a client uses after the "
        "last stored round. Where the client chooses a model for each input, say which one "
        "answered, and how near the input is to the prompts that it and its experts trained on."
    )
    add_client(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--prompt", metavar="TEXT", help="the input")
    source.add_argument(
        "--file", metavar="FILE", help="a data file with inputs; its items may lack answers"
    )
    parser.add_argument(
        "--image",
        dest="images",
        action="append",
        default=[],
        metavar="FILE",
        help="an image of the prompt; repeatable. Without marks <image> in the prompt, images "
        "stand before it",
    )
    parser.add_argument(
        "--option",
        dest="options",
        action="append",
        default=[],
        metavar="TEXT",
        help="an answer to choose from; repeat it for each (default: the answer is generated)",
    )
    parser.add_argument(
        "--view",
        metavar="VIEW",
        help='the model that answers, e.g. own, base or "expert NAME", or a way to choose one for '
        "each input, e.g. routed (default: what the client uses)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, for programs"
    )
    add_quiet(parser)


def handle(arguments: argparse.Namespace) -> None:
    """Answer, and print answers and which model gave them."""
    import contextlib
    import json
    import sys

    from fedmosaic import api

    def note(text: str) -> None:
        if not arguments.quiet:
            print(f"note: {text}", file=sys.stderr)

    with contextlib.redirect_stdout(sys.stderr):  # code of a model may print
        found = api.predict(
            arguments.source,
            arguments.client,
            arguments.prompt,
            images=arguments.images,
            options=arguments.options,
            file=arguments.file,
            view=arguments.view,
            on_note=note,
        )
    if arguments.json:
        print("\n".join(json.dumps(one.to_json(), ensure_ascii=False) for one in found))
        return
    from fedmosaic.reporting.predictions import print_prediction, print_predictions

    if arguments.prompt is not None:
        print_prediction(found[0])
    else:
        print_predictions(found)
