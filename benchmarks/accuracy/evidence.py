"""Every algorithm at equal compute on the miniature benchmark, FedMosaic's ablations and controls beside them: the paper's claims.

Run:  python -m benchmarks.accuracy.evidence static        (hours; the same command goes on)
      python -m benchmarks.accuracy.evidence dynamic       (after it, with the rates it chose; hours)
      python -m benchmarks.accuracy.evidence_table         (the tables, from whatever is finished)
      python -m benchmarks.accuracy.evidence static --only sft fedmosaic --pretraining 0
      (some rows, or the seeds of one pretraining, alone, at the published rates; then evidence_table.py --keep)

miniature/hetero (dynamic: miniature/dynamic), eight rounds, as many local steps as cost what 12 of local training cost (``budget:
flops``, counted). Seeds 0, 1, 2 on the bundled models' first pretraining, 3 and 4 on the other. Every algorithm chooses its learning
rate among the same three on a validation split of the training data, with a seed of its own on the first pretraining, by the mean of Self
and Others; FedMosaic's variants take what FedMosaic chose. FedMosaic is as in miniature/cross-family: Co-LoRA (rank 64) on o_proj of
eight layers, A and B refined together, ordinary LoRA elsewhere; ``as published`` is the paper's form (Co-LoRA on all projections of the
last layer of each of two blocks, the closed form of alignment, gradients).
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import fedmosaic
from benchmarks.common.paths import RESULTS
from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.compare import SWEEP
from fedmosaic.experiments.variants import Variant

SCENARIOS = {"static": "miniature/hetero", "dynamic": "miniature/dynamic"}
SEEDS = {0: (0, 1, 2), 1: (3, 4)}  # by pretraining of the bundled models
CHOICES = {"train.lr": ["2e-3", "4e-3", "8e-3"]}
CHOOSING_SEEDS = (1000,)
SET = ["rounds=8", "evaluation.every=8", "evaluation.last_items=30", "budget=flops"]
REFINED = ("alignment={method: gradients, refine: {}, layers: even, size: 1500}",)
COLORA = (
    "adapter.num_blocks=8", "adapter.shared_modules=[o_proj]", "adapter.shared_r=64",
    "train.moment_shared=tensor", "train.lr_shared=1e-2",
)  # fmt: skip
CLOSED = ("alignment={method: gradients, refine: null, layers: even, size: 512}",)
EVEN = ("alignment={method: none, layers: even}",)
BASELINES = (
    "sft", "fedavg", "ditto", "fedsim", "feddat", "feddpa", "perada", "fedmkt", "takfl",
    "fedprox", "scaffold", "fedper", "feddistill", "hetlora", "flexlora", "flora", "fedsa_lora", "ffa_lora",
)  # fmt: skip
FEDMOSAIC = Variant("fedmosaic", "fedmosaic", COLORA + REFINED)
# FedMosaic with something taken away or put in its place.
VARIANTS = [
    *(
        Variant(label, algorithm, COLORA + pair)
        for label, algorithm, pair in (
            ("within", "fedmosaic-within", REFINED),
            ("uniform", "fedmosaic-uniform", REFINED),
            ("permuted", "fedmosaic-permuted", REFINED),
            ("oracle", "fedmosaic-oracle", REFINED),
            ("sharp", "fedmosaic-sharp", REFINED),
            ("unaligned", "fedmosaic-unaligned", EVEN),
            ("turned", "fedmosaic-turned", REFINED),
            ("closed form", "fedmosaic", CLOSED),
            ("beside", "fedmosaic-beside", REFINED),
            ("pull", "fedmosaic-pull", REFINED),
            ("alone", "fedmosaic-alone", REFINED),
        )
    ),
    Variant("beside, sharp", "fedmosaic-beside", (*COLORA, *REFINED, "relevance.relative_tau=0.5")),
    # What alignment carries where foreign P, Q take nobody's place.
    Variant(
        "beside, turned",
        "fedmosaic",
        (*COLORA, *REFINED, "algorithms.fedmosaic={foreign: 2.0, turned: true}"),
    ),
    Variant("as published", "fedmosaic", ("alignment={method: gradients, size: 512}",)),
]
# In the dynamic part: every baseline but FedMKT, of which even one step a round costs more than local training there, and what the claims
# need.
DYNAMIC = (
    *(name for name in BASELINES if name != "fedmkt"),
    *(
        "fedmosaic",
        "within",
        "uniform",
        "permuted",
        "oracle",
        "sharp",
        "unaligned",
        "beside",
        "alone",
    ),
)


def scenario(part: str, pretraining: int) -> Scenario:
    """The scenario of a part, with the bundled models of a pretraining."""
    found = load_scenario(SCENARIOS[part], SET)
    if pretraining:
        clients = tuple(
            client.model_copy(update={"model": f"{client.model}@{pretraining}"})
            for client in found.clients
        )
        found = found.model_copy(update={"clients": clients})
    return found


def labelled(part: str) -> list[Variant]:
    """All variants of a part."""
    everything = [*(Variant(name, name) for name in BASELINES), FEDMOSAIC, *VARIANTS]
    return (
        everything
        if part == "static"
        else [variant for variant in everything if variant.label in DYNAMIC]
    )


def with_rates(variants: Sequence[Variant], chosen: dict[str, list[str]]) -> list[Variant]:
    """The variants with the rates that were chosen; variants of FedMosaic with FedMosaic's."""
    return [
        Variant(
            v.label, v.algorithm, v.settings + tuple(chosen.get(v.label, chosen[FEDMOSAIC.label]))
        )
        for v in variants
    ]


def chosen_rates(runs: Path) -> dict[str, list[str]]:
    """What every algorithm chose on the validation split."""
    choices = json.loads((runs / "static-0" / SWEEP).read_text())["choices"]
    return {label: found["chosen"] for label, found in choices.items()}


def published_rates() -> dict[str, list[str]]:
    """What every algorithm chose in the published runs."""
    chosen: dict[str, list[str]] = json.loads((RESULTS / "evidence.json").read_text())["static"][
        "chosen"
    ]
    return chosen


def published_variants(part: str) -> list[Variant]:
    """All variants of a part at the published rates."""
    return with_rates(labelled(part), published_rates())


def run_only(
    part: str, labels: Sequence[str], pretrainings: Sequence[int], folder: Path, jobs: int
) -> None:
    """Some variants on the models of some pretrainings, at the published rates."""
    variants = [variant for variant in published_variants(part) if variant.label in labels]
    for pretraining in pretrainings:
        fedmosaic.compare(
            scenario(part, pretraining), algorithms=variants, seeds=SEEDS[pretraining],
            out=folder / f"{part}-{pretraining}", jobs=jobs,
        )  # fmt: skip


def run(part: str, folder: Path, jobs: int) -> None:
    """Whatever of a part is not done yet."""
    field = [variant for variant in labelled("static") if variant not in VARIANTS]
    if part == "static":
        fedmosaic.compare(
            scenario(part, 0), algorithms=field, seeds=SEEDS[0], sweep=CHOICES, sweep_seeds=CHOOSING_SEEDS,
            out=folder / "static-0", jobs=jobs,
        )  # fmt: skip
    chosen = chosen_rates(folder)
    done = [variant.label for variant in field] if part == "static" else []
    for pretraining, seeds in SEEDS.items():
        left = [variant for variant in labelled(part) if pretraining or variant.label not in done]
        name = f"{part}-{pretraining}" + ("-variants" if done and not pretraining else "")
        fedmosaic.compare(
            scenario(part, pretraining),
            algorithms=with_rates(left, chosen),
            seeds=seeds,
            out=folder / name,
            jobs=jobs,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=list(SCENARIOS))
    parser.add_argument(
        "--only", nargs="+", metavar="LABEL", help="these rows alone, at the published rates"
    )
    parser.add_argument(
        "--pretraining",
        type=int,
        choices=list(SEEDS),
        help="the seeds of this one alone, at the published rates",
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/evidence"), help="where the comparisons go"
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    known = [variant.label for variant in labelled(arguments.part)]
    if unknown := [label for label in arguments.only or () if label not in known]:
        parser.error(
            f"--only {unknown[0]!r}: the {arguments.part} part has {', '.join(map(repr, known))}"
        )
    if arguments.only or arguments.pretraining is not None:
        pretrainings = list(SEEDS) if arguments.pretraining is None else [arguments.pretraining]
        run_only(
            arguments.part, arguments.only or known, pretrainings, arguments.runs, arguments.jobs
        )
    else:
        run(arguments.part, arguments.runs, arguments.jobs)


if __name__ == "__main__":
    main()
