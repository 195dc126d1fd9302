"""What can be typed: the arguments of the ``fedmosaic`` command. Imports nothing heavy, so that help comes at once."""

from __future__ import annotations

import argparse

from fedmosaic import __version__


def build_parser() -> argparse.ArgumentParser:
    """The command line, without importing torch."""
    parser = argparse.ArgumentParser(
        prog="fedmosaic",
        description="Personalised federated learning across heterogeneous vision-language models.",
        epilog="Start with: fedmosaic run miniature/quickstart",
    )
    parser.add_argument("--version", action="version", version=f"fedmosaic {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    run = commands.add_parser(
        "run",
        help="run a scenario, or continue a run",
        description="Run a scenario from beginning to end.",
    )
    run.add_argument(
        "scenario", nargs="?", help="name (see: fedmosaic list scenarios) or path of a .yaml file"
    )
    run.add_argument(
        "--algorithm", "-a", metavar="A", help="see: fedmosaic list algorithms (default: fedmosaic)"
    )
    run.add_argument(
        "--seed", "-s", type=int, metavar="S", help="seed of everything random (default: 0)"
    )
    run.add_argument(
        "--rounds", "-r", type=int, metavar="R", help="number of rounds, instead of the scenario's"
    )
    run.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one setting, e.g. train.lr=1e-3; repeatable",
    )
    run.add_argument(
        "--out", "-o", metavar="DIR", help="run folder (default: a new one under runs/)"
    )
    run.add_argument(
        "--resume", metavar="DIR", help="continue the run in DIR; no other option is needed"
    )
    run.add_argument("--device", metavar="D", help="cuda, mps, cpu (default: the best there is)")
    run.add_argument(
        "--dtype", metavar="T", help="float32, bfloat16, float16 (default: chosen for the device)"
    )
    run.add_argument(
        "--workers",
        "-w",
        type=int,
        metavar="N",
        help="processes the clients are spread over (default: chosen)",
    )
    run.add_argument(
        "--threads", type=int, metavar="N", help="torch threads a process (default: chosen)"
    )
    run.add_argument(
        "--tracker",
        action="append",
        metavar="T",
        help="tensorboard (default), wandb, trackio, mlflow or none; repeatable",
    )
    run.add_argument("--quiet", "-q", action="store_true", help="no progress, only the final table")

    compare = commands.add_parser(
        "compare",
        help="run several algorithms with several seeds and compare them",
        description="Run every algorithm with every seed, in parallel. The same command again goes on where it was stopped.",
    )
    compare.add_argument(
        "scenario", help="name (see: fedmosaic list scenarios) or path of a .yaml file"
    )
    compare.add_argument(
        "--algorithms",
        "-a",
        action="append",
        required=True,
        metavar="A,B,…",
        help="[LABEL=]ALGORITHM[:KEY=VALUE…], comma-separated, e.g. sft,fedavg,fedmosaic,permuted=fedmosaic:relevance.kind=permuted",
    )
    compare.add_argument(
        "--seeds", "-s", default="0-2", metavar="S", help="0-4 or 0,1,2 (default: 0-2)"
    )
    compare.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of all runs",
    )
    compare.add_argument(
        "--sweep",
        action="append",
        default=[],
        metavar="KEY=V1,V2",
        help="choose this setting for every algorithm, on a validation split; repeatable",
    )
    compare.add_argument(
        "--sweep-by",
        choices=["mean", "self", "others"],
        default="mean",
        help="the score to choose by",
    )
    compare.add_argument(
        "--sweep-seeds", metavar="S", help="seeds of the sweep (default: 1000,1001)"
    )
    compare.add_argument(
        "--out", "-o", metavar="DIR", help="folder (default: runs/<scenario>-comparison)"
    )
    compare.add_argument(
        "--jobs", "-j", type=int, default=0, metavar="N", help="runs at a time (default: chosen)"
    )
    compare.add_argument(
        "--quiet", "-q", action="store_true", help="no progress, only the final table"
    )

    show = commands.add_parser("show", help="print the table of a run or of a comparison")
    show.add_argument("folder", metavar="DIR")
    show.add_argument("--json", action="store_true", help="print summary.json instead")

    report = commands.add_parser(
        "report",
        help="a page that shows what runs and comparisons found",
        description="Make one self-contained page from run folders and comparison folders.",
    )
    report.add_argument(
        "folders", nargs="+", metavar="DIR", help="a run folder or a comparison folder"
    )
    report.add_argument(
        "--out",
        "-o",
        metavar="FILE",
        help="the page (default: report.html in DIR, or here for several)",
    )
    report.add_argument(
        "--export",
        metavar="FOLDER",
        help="also write figures (PNG, SVG) and tables (CSV, Markdown, LaTeX)",
    )

    adapt = commands.add_parser(
        "adapt",
        help="how soon a run's clients learn tasks that none of them trained on",
        description="Train every client of finished runs on new tasks and measure on the way. The same command again goes on.",
    )
    adapt.add_argument("folders", nargs="+", metavar="DIR", help="a run folder")
    adapt.add_argument(
        "--tasks",
        default="",
        metavar="A,B,…",
        help="new tasks (default: the scenario's unseen ones)",
    )
    adapt.add_argument(
        "--clients", default="", metavar="A,B,…", help="only these clients (default: all)"
    )
    adapt.add_argument(
        "--every",
        type=int,
        default=10,
        metavar="N",
        help="local steps between scores (default: 10)",
    )
    adapt.add_argument(
        "--points", type=int, default=5, metavar="N", help="scores after the first (default: 5)"
    )
    adapt.add_argument("--items", type=int, metavar="N", help="test examples a task (default: all)")
    adapt.add_argument("--fresh", action="store_true", help="measure untrained adapters beside it")
    adapt.add_argument(
        "--received",
        action="store_true",
        help="measure what the server would send next, in place of a client's own adapter",
    )
    adapt.add_argument(
        "--quiet", "-q", action="store_true", help="no progress, only the final table"
    )

    listing = commands.add_parser("list", help="what there is")
    listing.add_argument("what", choices=["algorithms", "scenarios", "models", "datasets"])

    export = commands.add_parser("export", help="write a client's adapter as an ordinary PEFT LoRA")
    export.add_argument("folder", metavar="DIR", help="a run folder")
    export.add_argument("--client", required=True, metavar="NAME")
    export.add_argument("--to", choices=["lora"], default="lora", help="the form (default: lora)")
    export.add_argument("--out", required=True, metavar="FOLDER")

    align = commands.add_parser(
        "align",
        help="make A and B of several models mean the same",
        description="Align the frozen A and B of some models to those of a pivot, on public data.",
    )
    align.add_argument("models", nargs="+", metavar="MODEL", help="see: fedmosaic list models")
    align.add_argument(
        "--pivot",
        "-p",
        required=True,
        metavar="MODEL",
        help="the model they are aligned to; the smallest",
    )
    align.add_argument(
        "--public",
        default="miniature/public",
        metavar="DATA",
        help="miniature/public (default), synthetic, or a .json, .jsonl or .txt file",
    )
    align.add_argument(
        "--size",
        "-n",
        type=int,
        default=256,
        metavar="N",
        help="public examples used (default: 256)",
    )
    align.add_argument(
        "--out",
        "-o",
        required=True,
        metavar="FOLDER",
        help="one file and one heat map for each model",
    )
    align.add_argument(
        "--method", metavar="M", help="what B is fitted to without --refine (default: gradients)"
    )
    align.add_argument(
        "--refine", action="store_true", help="A and B from many public pseudo-tasks; takes minutes"
    )
    align.add_argument(
        "--join",
        metavar="FOLDER",
        help="refine to the pivot's pair in FOLDER; all pairs there stay as they are",
    )
    align.add_argument("--seed", "-s", type=int, default=0, metavar="S")
    align.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change another setting; repeatable",
    )
    align.add_argument(
        "--device", default="auto", metavar="D", help="cuda, mps, cpu (default: the best there is)"
    )
    align.add_argument(
        "--dtype", default="auto", metavar="T", help="float32, bfloat16, float16 (default: chosen)"
    )
    align.add_argument("--quiet", "-q", action="store_true", help="no progress, only the tables")

    miniature = commands.add_parser("miniature", help="the built-in small models")
    actions = miniature.add_subparsers(dest="action", metavar="ACTION", required=True)
    pretrain = actions.add_parser("pretrain", help="make the bundled models again, from a seed")
    pretrain.add_argument("--out", required=True, metavar="FOLDER")
    pretrain.add_argument("--seed", type=int, default=0, metavar="S")
    pretrain.add_argument(
        "--model", action="append", metavar="NAME", help="only this model; repeatable"
    )
    return parser
