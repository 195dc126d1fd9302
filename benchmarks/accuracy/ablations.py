"""FedMosaic's settings one by one: how much each of them matters on the miniature benchmark.

Run:  python -m benchmarks.accuracy.ablations      (an hour and a half on 2 cores; the same command goes on)

FedMosaic as in evidence.py, at the published rates, on miniature/hetero (Co-LoRA of rank 64 on o_proj of eight layers, A and B refined
together, eight rounds, equal compute counted), one setting changed at a time, three seeds, paired differences to FedMosaic unchanged.
Another rank or number of blocks has A and B refined for itself, made once and stored. The choice of the pivot's A and B counts only where
the closed form fits the others to them, so it is looked at there, against the closed form with the default. Half participation halves what
everybody computes and is compared with local training under it, too. Beside the accuracies: the share of a client's weights that goes to
peers of its own group after the last round (with equal weights it would be what stands in the heading). Two rows at a time are run, and
whatever rows are complete are in the result: results/ablations.json and ablations.md.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import fedmosaic
from benchmarks.accuracy.evidence import (
    CLOSED,
    COLORA,
    FEDMOSAIC,
    REFINED,
    SEEDS,
    published_rates,
    scenario,
    with_rates,
)
from benchmarks.common.marks import put
from benchmarks.common.paths import RESULTS
from benchmarks.common.tables import complete_rows, shown, values_of, weights_after
from fedmosaic.experiments.statistics import interval, paired
from fedmosaic.experiments.variants import Variant, slug
from fedmosaic.federation.run_folder import RunFolder

SHOWN = ("Self", "Others", "in-group")
PARTICIPATION, HALF = "participation 50 %", "participation=0.5"
# What is changed, by label: blocks N_B, rank r of Co-LoRA, temperature and number of peers, weight of a new signature, its interval m …
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
    "kept 5 %": "relevance.keep=0.05",
    "noise 1e-2": "relevance.noise_std=1e-2",
    "N_B = 4": "adapter.num_blocks=4",
    "r = 32": "adapter.shared_r=32",
    "tau = 2": "relevance.tau=2",
    "alpha = 1": "relevance.ema=1",
    "kept 100 %": "relevance.keep=1",
    "no noise": "relevance.noise=none",
}
PIVOTS = {"pivot random": "alignment.pivot_init=random", "pivot svd": "alignment.pivot_init=svd"}
CLOSED_FORM = "closed form, pivot principal"
LOCAL, LOCAL_HALF = "sft", f"sft, {PARTICIPATION}"
# What a row is compared with; all others with FedMosaic unchanged.
AGAINST = {
    **dict.fromkeys(PIVOTS, CLOSED_FORM),
    LOCAL_HALF: LOCAL,
    LOCAL: None,
    FEDMOSAIC.label: LOCAL,
}


def variants() -> list[Variant]:
    """Local training and FedMosaic, the closed form with each pivot, FedMosaic with each change and local training under half
    participation: in the order in which they are run."""
    return [
        Variant(LOCAL, "sft"),
        FEDMOSAIC,
        Variant(CLOSED_FORM, "fedmosaic", COLORA + CLOSED),
        *(
            Variant(label, "fedmosaic", (*COLORA, *CLOSED, setting))
            for label, setting in PIVOTS.items()
        ),
        Variant(LOCAL_HALF, "sft", (HALF,)),
        *(
            Variant(label, "fedmosaic", (*COLORA, *REFINED, setting))
            for label, setting in CHANGED.items()
        ),
    ]


def published_variants() -> list[Variant]:
    """These at the published rates of the evidence; local training under half participation has the rate of local training."""
    chosen = published_rates()
    return with_rates(variants(), {**chosen, LOCAL_HALF: chosen[LOCAL]})


def run_of(folder: Path, label: str, seed: int) -> RunFolder:
    """Where a run is."""
    return RunFolder(folder / slug(label) / f"seed-{seed}")


def table(
    rows: Mapping[str, Any], listened: Mapping[str, float], seeds: Sequence[int], command: str
) -> str:
    """The result in Markdown."""
    values = values_of(rows)
    head = [
        *SHOWN,
        "compared with",
        *(f"{column}, difference" for column in SHOWN),
        "own group, %",
        "steps",
    ]
    lines = [
        "# FedMosaic's settings, one by one", "",
        f"Made by `{command}`, which tells what is run; all figures in `ablations.json`. Accuracy in percent on miniature/hetero, mean ± "
        f"half of a 95 % t-interval over seeds {', '.join(map(str, seeds))}; differences are paired by seed. Own group: share of a "
        f"client's weights that goes to peers of its own group after the last round; with equal weights {listened['equal']:.1f}.", "",
        "| changed | " + " | ".join(head) + " |", "|---|" + "---|" * len(head),
    ]  # fmt: skip
    for label, row in rows.items():
        against = AGAINST.get(label, FEDMOSAIC.label)
        cells = [shown(interval(row[c]["values"])) for c in SHOWN]
        cells.append(against or "")
        cells += [
            shown(paired(values[label][c], values[against][c]), "+") if against in values else ""
            for c in SHOWN
        ]
        cells += [f"{listened[label]:.1f}" if label in listened else "", str(row["steps"])]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    if {PARTICIPATION, LOCAL_HALF} <= rows.keys():
        gaps = [
            f"{c} {shown(paired(values[PARTICIPATION][c], values[LOCAL_HALF][c]), '+')}"
            for c in SHOWN
        ]
        lines += ["", f"Half participation, FedMosaic minus local training: {', '.join(gaps)}."]
    return "\n".join([*lines, ""])


def short_table(rows: Mapping[str, Any], listened: Mapping[str, float]) -> str:
    """What every change makes of FedMosaic (the closed form, of the closed form), for the README."""
    values = values_of(rows)
    head = [*SHOWN, "own group, %"]
    lines = ["| changed | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for label in rows:
        if (against := AGAINST.get(label, FEDMOSAIC.label)) in values and label not in (
            FEDMOSAIC.label,
            LOCAL_HALF,
        ):
            cells = [shown(paired(values[label][c], values[against][c]), "+") for c in SHOWN]
            of = f", to {against}" if label in PIVOTS else ""
            lines.append(
                f"| {label}{of} | " + " | ".join([*cells, f"{listened[label]:.1f}"]) + " |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/evidence"),
        help="the comparison goes into its folder ablations",
    )
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument(
        "--table", action="store_true", help="only write the result from the rows that are complete"
    )
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
    listened = weights_after(partial(run_of, folder), compared, list(rows), seeds)
    command = "python -m benchmarks.accuracy.ablations"
    content = {"command": command, "seeds": list(seeds), "rows": rows, "own group": listened}
    (RESULTS / "ablations.json").write_text(json.dumps(content, indent=1) + "\n")
    text = table(rows, listened, seeds, command)
    (RESULTS / "ablations.md").write_text(text)
    put("ablations", short_table(rows, listened))
    print(text)


if __name__ == "__main__":
    main()
