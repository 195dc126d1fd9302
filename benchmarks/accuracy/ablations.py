"""Change FedMosaic's settings one at a time on the miniature benchmark.

  python -m benchmarks.accuracy.ablations      90 minutes on 2 cores; the same command continues

FedMosaic is configured as in benchmarks.accuracy.evidence and uses the published rates:
miniature/hetero, Co-LoRA of rank 64 on o_proj of eight layers, A and B refined jointly, eight
rounds, equal compute counted. One setting is changed at a time. Three seeds; differences to the
unchanged FedMosaic are paired by seed.

- Another rank or number of blocks has A and B refined for itself, once, and stored.
- The initialisation of the pivot's A and B matters only where the closed form fits the other
  models to them. It is therefore compared under the closed form.
- Half participation halves the compute of every client. It is also compared with local training
  under half participation.

Beside the accuracies stands the share of a client's RELA weight that goes to peers of its own
group after the last round. Two rows are run at a time. The result has every row that is complete:
results/ablations.json and ablations.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fedmosaic
from benchmarks.accuracy.evidence_parts import SEEDS, scenario
from benchmarks.accuracy.evidence_published import published_rates, with_rates
from benchmarks.accuracy.evidence_rows import (
    CLOSED_FORM,
    COLORA,
    FEDMOSAIC,
    LOCAL,
    REFINED,
)
from benchmarks.common.arguments import add_run_arguments, benchmark_parser
from benchmarks.common.marks import write_between_marks
from benchmarks.common.paths import write_result
from benchmarks.common.tables import (
    Values,
    complete_rows,
    format_interval,
    own_group_shares,
    table_head,
    table_row,
    values_by_seed,
)
from fedmosaic.experiments.statistics import interval, paired
from fedmosaic.experiments.variants import Variant, slug
from fedmosaic.federation.run_folder import RunFolder

SHOWN = ("Self", "Others", "in-group")
OWN_GROUP = "weight on own group, %"
PARTICIPATION, HALF = "participation 50 %", "participation=0.5"
# The changed setting of each row. N_B: number of blocks; r: rank of Co-LoRA; tau: temperature of
# RELA; top-k: number of peers; m: batches between signatures; alpha: weight of a new signature.
CHANGED = {
    "N_B = 2": "adapter.num_blocks=2",
    "r = 16": "adapter.shared_r=16",
    "gate of the input": "adapter.gate=input",
    "no gate": "adapter.gate=none",
    "tau = 0.1": "relevance.tau=0.1",
    "top-k = 2": "relevance.top_k=2",
    PARTICIPATION: HALF,
    "m = 3": "relevance.every=3",
    "alpha = 0.1": "relevance.ema=0.1",
    "keep = 5 %": "relevance.keep=0.05",
    "noise 1e-2": "relevance.noise_std=1e-2",
    "N_B = 4": "adapter.num_blocks=4",
    "r = 32": "adapter.shared_r=32",
    "tau = 2": "relevance.tau=2",
    "alpha = 1": "relevance.ema=1",
    "keep = 100 %": "relevance.keep=1",
    "no noise": "relevance.noise=none",
}
PIVOTS = {"pivot random": "alignment.pivot_init=random", "pivot svd": "alignment.pivot_init=svd"}
PRINCIPAL = "closed form, pivot principal"
LOCAL_HALF = f"{LOCAL}, {PARTICIPATION}"
# The row that a row is compared with; all others are compared with the unchanged FedMosaic.
REFERENCES = {
    **dict.fromkeys(PIVOTS, PRINCIPAL),
    LOCAL_HALF: LOCAL,
    LOCAL: None,
    FEDMOSAIC.label: LOCAL,
}


def variants() -> list[Variant]:
    """Return all rows in the order in which they are run."""
    return [
        Variant(LOCAL, "sft"),
        FEDMOSAIC,
        Variant(PRINCIPAL, "fedmosaic", COLORA + CLOSED_FORM),
        *(
            Variant(label, "fedmosaic", (*COLORA, *CLOSED_FORM, setting))
            for label, setting in PIVOTS.items()
        ),
        Variant(LOCAL_HALF, "sft", (HALF,)),
        *(
            Variant(label, "fedmosaic", (*COLORA, *REFINED, setting))
            for label, setting in CHANGED.items()
        ),
    ]


def published_variants() -> list[Variant]:
    """Return all rows at the published rates of the evidence."""
    chosen = published_rates()
    return with_rates(variants(), {**chosen, LOCAL_HALF: chosen[LOCAL]})


def run_of(folder: Path, label: str, seed: int) -> RunFolder:
    """Return the run folder of a row and a seed."""
    return RunFolder(folder / slug(label) / f"seed-{seed}")


def table(
    rows: Mapping[str, Any], shares: Mapping[str, float], seeds: Sequence[int], command: str
) -> str:
    """Return the whole result in Markdown.

    Args:
        rows: the compared rows.
        shares: the own group's share of weight by label, in percent; ``equal``: equal weights.
        seeds: the seeds of all rows.
        command: the command that made the result.
    """
    values = values_by_seed(rows)
    gaps = [f"{column}, difference" for column in SHOWN]
    lines = [
        "# FedMosaic's settings, one by one",
        "",
        f"Made by `{command}`, whose docstring says what is run; all figures are in "
        "`ablations.json`. Accuracy in percent on miniature/hetero: mean ± half-width of the 95 % "
        f"t-interval over seeds {', '.join(map(str, seeds))}; differences are paired by seed. "
        "Weight on own group: the share of a client's RELA weight that goes to peers of its own "
        f"group after the last round; with equal weights {shares['equal']:.1f}. The settings: N_B "
        "is `adapter.num_blocks` (here 8), r `adapter.shared_r` (64), tau `relevance.tau` (0.5), "
        "top-k `relevance.top_k` (all), m `relevance.every` (10), alpha `relevance.ema` (0.5), "
        "keep `relevance.keep` (40 %), noise `relevance.noise_std` (1e-4).",
        "",
        *table_head("changed", [*SHOWN, "compared with", *gaps, OWN_GROUP, "steps"]),
    ]
    for label, row in rows.items():
        reference = REFERENCES.get(label, FEDMOSAIC.label)
        cells = [format_interval(interval(row[c]["values"])) for c in SHOWN]
        cells.append(reference or "")
        cells += _differences(values, label, reference)
        cells += [f"{shares[label]:.1f}" if label in shares else "", str(row["steps"])]
        lines.append(table_row([label, *cells]))
    if {PARTICIPATION, LOCAL_HALF} <= rows.keys():
        halved = _differences(values, PARTICIPATION, LOCAL_HALF)
        found = ", ".join(f"{c} {gap}" for c, gap in zip(SHOWN, halved, strict=True))
        lines += ["", f"Half participation, FedMosaic minus local training: {found}."]
    return "\n".join([*lines, ""])


def short_table(rows: Mapping[str, Any], shares: Mapping[str, float]) -> str:
    """Return the difference that each change makes, for the page of results."""
    values = values_by_seed(rows)
    lines = table_head("changed", [*SHOWN, OWN_GROUP])
    for label in rows:
        reference = REFERENCES.get(label, FEDMOSAIC.label)
        if reference in values and label not in (FEDMOSAIC.label, LOCAL_HALF):
            name = f"{label}, compared with {reference}" if label in PIVOTS else label
            gaps = _differences(values, label, reference)
            lines.append(table_row([name, *gaps, f"{shares[label]:.1f}"]))
    return "\n".join(lines)


def _differences(values: Values, label: str, reference: str | None) -> list[str]:
    if reference is None or reference not in values:
        return [""] * len(SHOWN)
    return [format_interval(paired(values[label][c], values[reference][c]), "+") for c in SHOWN]


def main() -> None:
    """Run the rows two at a time and write the result."""
    parser = benchmark_parser(__doc__)
    add_run_arguments(parser, "runs/evidence", jobs=2)
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    folder, seeds, compared = arguments.runs / "ablations", SEEDS[0], scenario("static", 0)
    if not arguments.table:
        rated = published_variants()
        for end in range(2, len(rated) + 2, 2):
            fedmosaic.compare(
                compared, algorithms=rated[:end], seeds=seeds, out=folder, jobs=arguments.jobs
            )
    rows = complete_rows(partial(run_of, folder), [variant.label for variant in variants()], seeds)
    shares = own_group_shares(partial(run_of, folder), compared, list(rows), seeds)
    command = "python -m benchmarks.accuracy.ablations"
    content = {"command": command, "seeds": list(seeds), "rows": rows, "own group": shares}
    text = table(rows, shares, seeds, command)
    write_result("ablations", content, text)
    write_between_marks("ablations", short_table(rows, shares))
    print(text)


if __name__ == "__main__":
    main()
