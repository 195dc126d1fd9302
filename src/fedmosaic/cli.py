"""The ``fedmosaic`` command: parse, call, print. Nothing heavy is imported before it is needed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from fedmosaic.arguments import build_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        the exit status: 0; 1 for a comparison some of whose runs failed; 2 for anything the user can mend (one line on
        standard error); 130 after Ctrl-C.
    """
    arguments = build_parser().parse_args(argv)
    from fedmosaic.errors import FedMosaicError, Interrupted

    try:
        return int(globals()[f"_{arguments.command}"](arguments) or 0)
    except FedMosaicError as error:
        print(f"fedmosaic: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(
            f"fedmosaic: {error.strerror or error}"
            + (f": {error.filename}" if error.filename else ""),
            file=sys.stderr,
        )
        return 2
    except Interrupted as stop:
        print(f"\ninterrupted; continue with: {stop.again}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def entry() -> None:
    """The console script."""
    sys.exit(main())


def _run(arguments: argparse.Namespace) -> None:
    from fedmosaic import api
    from fedmosaic.errors import ConfigError
    from fedmosaic.reporting.tables import print_summary

    if arguments.resume:
        given = [
            name
            for name in ("scenario", "algorithm", "seed", "rounds", "out")
            if getattr(arguments, name) is not None
        ]
        if given or arguments.set:
            raise ConfigError(
                "--resume takes everything from the run folder; leave out "
                + ", ".join(given or ["--set"])
            )
        finished = api.resume(arguments.resume, progress=not arguments.quiet)
    else:
        if not arguments.scenario:
            raise ConfigError(
                "which scenario? `fedmosaic list scenarios` shows them; start with miniature/quickstart"
            )
        overrides = list(arguments.set)
        overrides += [
            f"models.{key}={value}"
            for key in ("device", "dtype")
            if (value := getattr(arguments, key))
        ]
        options = {
            key: value
            for key in ("workers", "threads")
            if (value := getattr(arguments, key)) is not None
        }
        if arguments.tracker:
            options["trackers"] = [name for name in arguments.tracker if name != "none"]
        finished = api.run(
            arguments.scenario,
            algorithm=arguments.algorithm or "fedmosaic",
            seed=arguments.seed or 0,
            rounds=arguments.rounds,
            set=overrides,
            out=arguments.out,
            progress=not arguments.quiet,
            **options,
        )
    print_summary(finished.summary)
    print(f"run folder: {finished.folder}")


def _compare(arguments: argparse.Namespace) -> int:
    from fedmosaic import api
    from fedmosaic.experiments.variants import parse_choices, parse_seeds, parse_variants
    from fedmosaic.reporting.comparison import print_comparison

    options = {"sweep_seeds": parse_seeds(arguments.sweep_seeds)} if arguments.sweep_seeds else {}
    comparison = api.compare(
        arguments.scenario,
        algorithms=parse_variants(arguments.algorithms),
        seeds=parse_seeds(arguments.seeds),
        set=arguments.set,
        sweep=parse_choices(arguments.sweep),
        sweep_by=arguments.sweep_by,
        out=arguments.out,
        jobs=arguments.jobs,
        progress=not arguments.quiet,
        **options,
    )
    print_comparison(comparison.result)
    print(f"comparison folder: {comparison.folder}")
    return 1 if comparison.failures else 0


def _show(arguments: argparse.Namespace) -> None:
    import json

    from fedmosaic import api
    from fedmosaic.reporting.comparison import print_comparison
    from fedmosaic.reporting.tables import print_summary

    summary = api.show(arguments.folder)
    if arguments.json:
        print(json.dumps(summary, indent=2))
    elif "algorithms" in summary:
        print_comparison(summary)
    else:
        print_summary(summary)


def _report(arguments: argparse.Namespace) -> None:
    from fedmosaic import api

    print(f"wrote {api.report(arguments.folders, out=arguments.out, export=arguments.export)}")
    if arguments.export:
        print(f"wrote figures and tables to {arguments.export}")


def _adapt(arguments: argparse.Namespace) -> None:
    from fedmosaic import api
    from fedmosaic.reporting.adaptation import print_adaptations, print_curve

    found = {
        folder: api.adapt(
            folder,
            tasks=[name for name in arguments.tasks.split(",") if name],
            clients=[name for name in arguments.clients.split(",") if name],
            every=arguments.every,
            points=arguments.points,
            items=arguments.items,
            fresh=arguments.fresh,
            received=arguments.received,
            told=None if arguments.quiet else print_curve,
        )
        for folder in arguments.folders
    }
    print_adaptations(found)


def _list(arguments: argparse.Namespace) -> None:
    from fedmosaic.reporting.listings import listing

    listing(arguments.what)


def _export(arguments: argparse.Namespace) -> None:
    from fedmosaic import api

    folder = api.export(arguments.folder, arguments.client, arguments.out)
    print(
        f"wrote {folder}; load it with peft.PeftModel.from_pretrained(base_model, {str(folder)!r})"
    )


def _align(arguments: argparse.Namespace) -> None:
    from fedmosaic import api
    from fedmosaic.reporting.alignment import print_alignments

    settings = {
        name: value for name in ("method", "refine", "join") if (value := getattr(arguments, name))
    }
    found = api.align(
        arguments.models,
        pivot=arguments.pivot,
        public=arguments.public,
        size=arguments.size,
        seed=arguments.seed,
        out=arguments.out,
        device=arguments.device,
        dtype=arguments.dtype,
        set=arguments.set,
        progress=not arguments.quiet,
        **settings,
    )
    print_alignments(found)
    print(f"wrote {len(found)} alignment{'' if len(found) == 1 else 's'} to {arguments.out}")


def _miniature(arguments: argparse.Namespace) -> None:
    from pathlib import Path

    from fedmosaic.miniature.pretraining.pretrain import pretrain

    for folder in pretrain(Path(arguments.out), seed=arguments.seed, names=arguments.model):
        print(f"wrote {folder}")
