"""The evidence's runs as tables and verdicts: reads what benchmarks/evidence.py ran, writes results/evidence.md and .json.

Run:  python benchmarks/evidence_table.py [--runs runs/evidence]

A claim is a sign of a paired difference, on Self and on Others. It *holds* where the whole 95 % interval lies on the claimed side of
zero, *does not hold* where it lies on the other, and else *cannot be told*. A claim about several others at once (every baseline) holds
where it holds for each, and does not hold where it fails for one; no correction is made for how many they are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evidence import BASELINES, FEDMOSAIC, SEEDS, VARIANTS, labelled
from tables import COLUMNS, Values, shown, values_of

import fedmosaic
from fedmosaic.comparison.variants import slug
from fedmosaic.evaluation.comparison import compare_summaries
from fedmosaic.evaluation.statistics import Interval, paired
from fedmosaic.federation.runfolder import RunFolder
from fedmosaic.reporting.comparison import mean

RESULTS = Path(__file__).parent / "results"
MAIN = ("Self", "Others")
OURS = FEDMOSAIC.label
# What the paper says, as (claim, who, above whom).
CLAIMS = (
    ("FedMosaic above local training", OURS, ("sft",)),
    ("FedMosaic above every baseline", OURS, BASELINES[1:]),
    ("RELA above uniform weights", OURS, ("uniform",)),
    ("RELA above its weights at the wrong peers", OURS, ("permuted",)),
    ("Aligned A, B above random ones", OURS, ("unaligned",)),
    ("Sharing across architectures above sharing within", OURS, ("within",)),
    ("Extension: P, Q of others beside one's own above sharing within", "beside", ("within",)),
)


def summaries(part: str, runs: Path) -> dict[str, dict[int, Any]]:
    """Of all finished runs of a part, by label and seed."""
    found: dict[str, dict[int, Any]] = {}
    for variant in labelled(part):
        for pretraining, seeds in SEEDS.items():
            for folder in sorted(runs.glob(f"{part}-{pretraining}*")):
                for seed in seeds:
                    if summary := RunFolder(folder / slug(variant.label) / f"seed-{seed}").summary():
                        found.setdefault(variant.label, {})[seed] = summary
    return found


def verdict(gaps: Sequence[Interval]) -> str:
    """Of a claim that every one of these differences is above zero."""
    sides = [0 if gap.half is None or abs(gap.mean) <= gap.half else 1 if gap.mean > 0 else -1 for gap in gaps]
    if any(side < 0 for side in sides):
        return "does not hold"
    return "holds" if all(side > 0 for side in sides) else "cannot be told"


def claims(values: Values) -> list[dict[str, Any]]:
    """A line for each claim whose runs are there: the verdict and the smallest difference of each column."""
    lines: list[dict[str, Any]] = []
    for claim, who, above in CLAIMS:
        if who not in values or not (measured := [label for label in above if label in values]):
            continue
        line: dict[str, Any] = {"claim": claim, "of": len(measured)}
        for column in MAIN:
            gaps = {label: paired(values[who][column], values[label][column]) for label in measured}
            known = {label: gap for label, gap in gaps.items() if gap is not None}
            if not known:  # no seed is finished on both sides
                break
            least = min(known, key=lambda label: known[label].mean)
            above_surely = sum(verdict([gap]) == "holds" for gap in known.values())
            line[column] = {
                "verdict": verdict(list(known.values())), "least": least, **vars(known[least]), "above": above_surely,
            }  # fmt: skip
        else:
            lines.append(line)
    return lines


def claim_cell(line: Mapping[str, Any], column: str) -> str:
    entry = line[column]
    which = (
        "" if line["of"] == 1 else f", least of {line['of']} against {entry['least']}, surely above {entry['above']}"
    )
    return f"{entry['verdict']} ({shown(Interval(entry['mean'], entry['half'], entry['n']), '+')}{which})"


def claims_table(lines: Sequence[Mapping[str, Any]]) -> str:
    text = ["| claim | Self | Others |", "|---|---|---|"]
    text += [f"| {line['claim']} | {claim_cell(line, 'Self')} | {claim_cell(line, 'Others')} |" for line in lines]
    return "\n".join(text)


def main_table(rows: Mapping[str, Any], chosen: Mapping[str, Sequence[str]]) -> str:
    """All algorithms, then FedMosaic's variants, with what FedMosaic has more than each of them."""
    values = values_of(rows)
    head = [*COLUMNS, f"Self: {OURS} −", f"Others: {OURS} −", "steps", "rate"]
    text = ["| algorithm | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for label, row in rows.items():
        cells = [mean(row[c]) for c in COLUMNS]
        mine = label == OURS or OURS not in values
        cells += ["" if mine else shown(paired(values[OURS][c], values[label][c]), "+") for c in MAIN]
        rate = ", ".join(setting.partition("=")[2] for setting in chosen.get(label, ()))
        text.append(f"| {label} | " + " | ".join([*cells, str(row["steps"]), rate]) + " |")
    return "\n".join(text)


def page(parts: Mapping[str, Any]) -> str:
    """The result in Markdown."""
    own = {variant.label for variant in VARIANTS}
    lines = [
        "# The paper's claims on the miniature benchmark", "",
        "Made by `python benchmarks/evidence.py static`, `… dynamic` and `python benchmarks/evidence_table.py`, which tell what is run "
        "and when a claim holds. Accuracy in percent, mean ± half of a 95 % t-interval over seeds of two pretrainings; differences are "
        "paired by seed. The miniature world stands in for DRAKE in structure; it is not DRAKE.",
    ]  # fmt: skip
    for part, content in parts.items():
        rows = content["rows"]
        lines += ["", f"## {part.capitalize()}", "", claims_table(content["claims"])]
        for title, group in (
            ("Algorithms", [k for k in rows if k not in own]),
            (f"{OURS} with one thing changed", [k for k in rows if k in own or k == OURS]),
        ):
            lines += ["", f"{title}:", "", main_table({k: rows[k] for k in group}, content["chosen"])]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"), help="where the comparisons are")
    runs: Path = parser.parse_args().runs
    parts: dict[str, Any] = {}
    for part in ("static", "dynamic"):
        if rows := compare_summaries(summaries(part, runs)):
            chosen = fedmosaic.show(runs / "static-0")["chosen"]
            parts[part] = {"rows": rows, "chosen": chosen, "claims": claims(values_of(rows))}
    if not parts:
        parser.error(f"{runs} holds no finished run; python benchmarks/evidence.py makes them")
    (RESULTS / "evidence.json").write_text(json.dumps(parts, indent=1) + "\n")
    (RESULTS / "evidence.md").write_text(page(parts))
    print(page(parts))


if __name__ == "__main__":
    main()
