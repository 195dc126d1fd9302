"""Compare every algorithm at equal compute, and FedMosaic with one thing changed.

Commands, in this order:

  python -m benchmarks.accuracy.evidence static     hours; the same command continues a stopped run
  python -m benchmarks.accuracy.evidence dynamic    hours; takes the rates that static chose
  python -m benchmarks.accuracy.evidence_table      writes the tables from all finished runs
  python -m benchmarks.accuracy.evidence_picture    draws docs/evidence.svg

Some rows alone, or the seeds of one pretraining alone, at the published learning rates:

  python -m benchmarks.accuracy.evidence static --only sft fedmosaic --pretraining 0
  python -m benchmarks.accuracy.evidence_table --keep

Scenario: miniature/hetero (dynamic: miniature/dynamic), eight rounds. Every algorithm gets the
local steps that cost what 12 steps of local training cost (``budget: flops``, counted). Seeds 0,
1, 2 use the first pretraining of the bundled models, seeds 3 and 4 the second.

Learning rates: every algorithm chooses among the same three, by the mean of Self and Others on a
validation split of the training data, with a seed of its own and on the first pretraining.
FedMosaic's variants use the rate that FedMosaic chose.

FedMosaic is configured as in miniature/cross-family: Co-LoRA (rank 64) on o_proj of eight layers,
A and B refined jointly, ordinary LoRA elsewhere. The row "as published" has the paper's form:
Co-LoRA on all projections of the last layer of each of two blocks, A and B aligned by the closed
form on output gradients.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import fedmosaic
from benchmarks.common.arguments import add_run_arguments, benchmark_parser
from benchmarks.common.paths import read_result
from fedmosaic.config import Scenario
from fedmosaic.config.load import load_scenario
from fedmosaic.experiments.compare import SWEEP
from fedmosaic.experiments.variants import Variant

SCENARIOS = {"static": "miniature/hetero", "dynamic": "miniature/dynamic"}
SEEDS = {0: (0, 1, 2), 1: (3, 4)}  # by pretraining of the bundled models
CHOICES = {"train.lr": ["2e-3", "4e-3", "8e-3"]}
CHOOSING_SEEDS = (1000,)
SETTINGS = ["rounds=8", "evaluation.every=8", "evaluation.last_items=30", "budget=flops"]
COLORA = (
    "adapter.num_blocks=8",
    "adapter.block_rule=even",
    "adapter.shared_modules=[o_proj]",
    "adapter.shared_r=64",
    "train.moment_shared=tensor",
    "train.lr_shared=1e-2",
)
REFINED = ("alignment={method: gradients, refine: {}, size: 1500}",)
CLOSED_FORM = ("alignment={method: gradients, refine: null, size: 512}",)
NOT_ALIGNED = ("alignment={method: none}",)
LOCAL = "sft"
BASELINES = (
    LOCAL,
    "fedavg",
    "ditto",
    "fedsim",
    "feddat",
    "feddpa",
    "perada",
    "fedmkt",
    "takfl",
    "fedprox",
    "scaffold",
    "fedper",
    "feddistill",
    "hetlora",
    "flexlora",
    "flora",
    "fedsa-lora",
    "ffa-lora",
)
FEDMOSAIC = Variant("fedmosaic", "fedmosaic", COLORA + REFINED)
# Rows of FedMosaic with one thing changed, and what is changed.
SAME_ARCHITECTURE = "same architecture"  # P, Q are shared within an architecture alone
UNIFORM = "uniform"  # equal weights instead of RELA's
PERMUTED = "permuted"  # RELA's weights, given to permuted peers
ORACLE = "oracle"  # weights that know which clients have families of tasks in common
RELATIVE_TEMPERATURE = "relative temperature"  # tau in standard deviations of the similarities
UNALIGNED = "unaligned"  # random A, B
ROTATED = "rotated"  # the refined A, B of each architecture, rotated at random
CLOSED = "closed form"  # A, B by the closed form of alignment
ADDITIVE = "additive"  # other architectures' P, Q are added to the mix of the own architecture
INTERPOLATION = "interpolation"  # a fifth of what is received enters the own adapter
NO_COMMUNICATION = "no communication"  # the same adapters, nothing is exchanged
ADDITIVE_TEMPERATURE = f"{ADDITIVE}, {RELATIVE_TEMPERATURE}"
ADDITIVE_ROTATED = f"{ADDITIVE}, {ROTATED}"
AS_PUBLISHED = "as published"
VARIANTS = [
    *(
        Variant(label, algorithm, COLORA + pair)
        for label, algorithm, pair in (
            (SAME_ARCHITECTURE, "fedmosaic-same-architecture", REFINED),
            (UNIFORM, "fedmosaic-uniform", REFINED),
            (PERMUTED, "fedmosaic-permuted", REFINED),
            (ORACLE, "fedmosaic-oracle", REFINED),
            (RELATIVE_TEMPERATURE, "fedmosaic-relative-temperature", REFINED),
            (UNALIGNED, "fedmosaic-unaligned", NOT_ALIGNED),
            (ROTATED, "fedmosaic-rotated", REFINED),
            (CLOSED, "fedmosaic", CLOSED_FORM),
            (ADDITIVE, "fedmosaic-additive", REFINED),
            (INTERPOLATION, "fedmosaic-interpolation", REFINED),
            (NO_COMMUNICATION, "fedmosaic-no-communication", REFINED),
        )
    ),
    Variant(
        ADDITIVE_TEMPERATURE,
        "fedmosaic-additive",
        (*COLORA, *REFINED, "relevance.relative_tau=0.5"),
    ),
    # Shows what alignment contributes where other architectures' P, Q are added to the own mix.
    Variant(
        ADDITIVE_ROTATED,
        "fedmosaic-additive-rotated",
        (*COLORA, *REFINED),
    ),
    Variant(AS_PUBLISHED, "fedmosaic", ("alignment={method: gradients, size: 512}",)),
]
# The dynamic part has every baseline but FedMKT, of which even one step a round costs more than
# local training there, and the variants that the claims need.
DYNAMIC = (
    *(name for name in BASELINES if name != "fedmkt"),
    FEDMOSAIC.label,
    SAME_ARCHITECTURE,
    UNIFORM,
    PERMUTED,
    ORACLE,
    RELATIVE_TEMPERATURE,
    UNALIGNED,
    ADDITIVE,
    NO_COMMUNICATION,
)


def scenario(part: str, pretraining: int) -> Scenario:
    """Return the scenario of a part with the bundled models of a pretraining.

    Args:
        part: ``static`` or ``dynamic``.
        pretraining: number of the pretraining.
    """
    found = load_scenario(SCENARIOS[part], SETTINGS)
    if pretraining:
        clients = tuple(
            client.model_copy(update={"model": f"{client.model}@{pretraining}"})
            for client in found.clients
        )
        found = found.model_copy(update={"clients": clients})
    return found


def variants_of(part: str) -> list[Variant]:
    """Return all rows of a part, at the learning rate of the scenario."""
    everything = [
        *(Variant(name, name) for name in BASELINES),
        FEDMOSAIC,
        *VARIANTS,
    ]
    if part == "static":
        return everything
    return [variant for variant in everything if variant.label in DYNAMIC]


def with_rates(variants: Sequence[Variant], chosen: Mapping[str, Sequence[str]]) -> list[Variant]:
    """Return the variants with their chosen rates; a variant without a choice gets FedMosaic's."""
    return [
        Variant(
            v.label, v.algorithm, v.settings + tuple(chosen.get(v.label, chosen[FEDMOSAIC.label]))
        )
        for v in variants
    ]


def chosen_rates(runs: Path) -> dict[str, list[str]]:
    """Return the settings that each algorithm chose on the validation split of its runs."""
    choices = json.loads((runs / "static-0" / SWEEP).read_text())["choices"]
    return {label: found["chosen"] for label, found in choices.items()}


def published_rates() -> dict[str, list[str]]:
    """Return the settings that each algorithm chose in the published runs."""
    chosen: dict[str, list[str]] = read_result("evidence")["static"]["chosen"]
    return chosen


def published_variants(part: str) -> list[Variant]:
    """Return all rows of a part at the published learning rates."""
    return with_rates(variants_of(part), published_rates())


def run_some(
    part: str, labels: Sequence[str], pretrainings: Sequence[int], runs: Path, jobs: int
) -> None:
    """Run some rows with the seeds of some pretrainings, at the published learning rates."""
    variants = [variant for variant in published_variants(part) if variant.label in labels]
    for pretraining in pretrainings:
        fedmosaic.compare(
            scenario(part, pretraining),
            algorithms=variants,
            seeds=SEEDS[pretraining],
            out=runs / f"{part}-{pretraining}",
            jobs=jobs,
        )


def run_all(part: str, runs: Path, jobs: int) -> None:
    """Run whatever of a part is not finished; the static part chooses the learning rates first."""
    choosing = [variant for variant in variants_of("static") if variant not in VARIANTS]
    if part == "static":
        fedmosaic.compare(
            scenario(part, 0),
            algorithms=choosing,
            seeds=SEEDS[0],
            sweep=CHOICES,
            sweep_seeds=CHOOSING_SEEDS,
            out=runs / "static-0",
            jobs=jobs,
        )
    chosen = chosen_rates(runs)
    done = [variant.label for variant in choosing] if part == "static" else []
    for pretraining, seeds in SEEDS.items():
        left = [v for v in variants_of(part) if pretraining or v.label not in done]
        name = f"{part}-{pretraining}" + ("-variants" if done and not pretraining else "")
        fedmosaic.compare(
            scenario(part, pretraining),
            algorithms=with_rates(left, chosen),
            seeds=seeds,
            out=runs / name,
            jobs=jobs,
        )


def main() -> None:
    """Parse the command line and run what it asks for."""
    parser = benchmark_parser(__doc__)
    parser.add_argument("part", choices=list(SCENARIOS))
    parser.add_argument(
        "--only", nargs="+", metavar="LABEL", help="run these rows alone, at the published rates"
    )
    parser.add_argument(
        "--pretraining",
        type=int,
        choices=list(SEEDS),
        help="run the seeds of this pretraining alone, at the published rates",
    )
    add_run_arguments(parser, "runs/evidence", jobs=2, table=False)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    known = [variant.label for variant in variants_of(arguments.part)]
    if unknown := [label for label in arguments.only or () if label not in known]:
        parser.error(
            f"--only {unknown[0]!r}: the {arguments.part} part has no such row; it has "
            f"{', '.join(map(repr, known))}"
        )
    if arguments.only or arguments.pretraining is not None:
        pretrainings = list(SEEDS) if arguments.pretraining is None else [arguments.pretraining]
        labels = arguments.only or known
        run_some(arguments.part, labels, pretrainings, arguments.runs, arguments.jobs)
    else:
        run_all(arguments.part, arguments.runs, arguments.jobs)


if __name__ == "__main__":
    main()
