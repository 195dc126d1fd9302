"""The algorithms of the library on the miniature benchmark, several seeds each, with paired intervals.

    python benchmarks/miniature.py                       # everything, two runs at a time
    python benchmarks/miniature.py --plan easy-vqa       # the same on real images
    python benchmarks/miniature.py --table               # only write the table again from the finished runs

Runs go to --runs (resumable: finished runs are kept, interrupted ones continue). The result is
``benchmarks/results/<plan>.json`` and ``<plan>.md``, and the table of the README. Local steps a round are those of equal compute in the
paper, 94 of FedMosaic for 100 of the others, rounded down to 11 for 12 here. The miniature world stands in for DRAKE in structure; it is
not DRAKE.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365}
# name: (algorithm, settings). The control has RELA's weights at the wrong peers.
VARIANTS: dict[str, tuple[str, list[str]]] = {
    "sft": ("sft", []),
    "fedavg": ("fedavg", []),
    "fedmosaic": ("fedmosaic", []),
    "fedmosaic, permuted relevance": ("fedmosaic", ["relevance.kind=permuted"]),
    "fedmosaic, pull 0.2": ("fedmosaic", ["algorithms.fedmosaic.pull=0.2"]),
}
PLANS = {
    "miniature": {
        "miniature/hetero": ["sft", "fedavg", "fedmosaic", "fedmosaic, permuted relevance"],
        "miniature/homo-llama": ["sft", "fedavg", "fedmosaic"],
    },
    "easy-vqa": {"easy-vqa": ["sft", "fedavg", "fedmosaic"]},
}
MARKS = ("<!-- results -->", "<!-- end of results -->")
COLUMNS = {
    "Self": ("self", "last"),
    "Others": ("others", "last"),
    "in-group": ("others", "in_group", "last"),
    "out-group": ("others", "out_group", "last"),
    "Self AUC": ("self", "auc"),
    "Others AUC": ("others", "auc"),
}


def folder(runs: Path, scenario: str, variant: str, seed: int) -> Path:
    """Where a run lives."""
    return runs / f"{scenario}-{variant}-{seed}".replace("/", "-").replace(", ", "-").replace(" ", "-")


def run(runs: Path, scenario: str, variant: str, seed: int, extra: list[str]) -> None:
    """Run, or continue, one combination in a process of its own."""
    path = folder(runs, scenario, variant, seed)
    if (path / "summary.json").is_file():
        return
    command = [sys.executable, "-m", "fedmosaic", "run", "--quiet", "--tracker", "none", "--workers", "1"]
    if (path / "config.yaml").is_file():
        command = [sys.executable, "-m", "fedmosaic", "run", "--quiet", "--resume", str(path)]
    else:
        algorithm, settings = VARIANTS[variant]
        command += [scenario, "--algorithm", algorithm, "--seed", str(seed), "--out", str(path)]
        command += [part for setting in [*settings, *extra] for part in ("--set", setting)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False
    )
    print(f"{scenario} · {variant} · seed {seed}: {'done' if done.returncode == 0 else done.stderr[-400:]}", flush=True)


def value(summary: dict[str, Any], path: tuple[str, ...]) -> float:
    """A figure of a summary, in percent."""
    found: Any = summary
    for part in path:
        found = found[part]
    return 100 * float(found)


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half-width of the 95 % t-interval over seeds."""
    if len(values) < 2:
        return values[0], float("nan")
    return statistics.mean(values), T_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5


def collect(runs: Path, plan: dict[str, list[str]], seeds: list[int]) -> dict[str, Any]:
    """Means, intervals and paired differences to local training, for every scenario and variant."""
    result: dict[str, Any] = {}
    for scenario, variants in plan.items():
        found: dict[str, dict[int, dict[str, Any]]] = {}
        for variant in variants:
            paths = {seed: folder(runs, scenario, variant, seed) / "summary.json" for seed in seeds}
            found[variant] = {seed: json.loads(p.read_text()) for seed, p in paths.items() if p.is_file()}
        entry: dict[str, Any] = {}
        for variant, summaries in found.items():
            if not summaries:
                continue
            rows: dict[str, Any] = {"seeds": sorted(summaries)}
            for column, path in COLUMNS.items():
                values = [value(summaries[seed], path) for seed in sorted(summaries)]
                mean, half = interval(values)
                rows[column] = {"values": [round(v, 3) for v in values], "mean": round(mean, 3), "ci95": round(half, 3)}
                both = sorted(set(summaries) & set(found["sft"]))
                if variant != "sft" and both:
                    gaps = [value(summaries[s], path) - value(found["sft"][s], path) for s in both]
                    mean, half = interval(gaps)
                    rows[column]["minus sft"] = {"mean": round(mean, 3), "ci95": round(half, 3)}
            rows["bytes"] = summaries[min(summaries)]["bytes"]
            rows["seconds"] = round(statistics.median(s["seconds"]["total"] for s in summaries.values()), 1)
            entry[variant] = rows
        result[scenario] = entry
    return result


def table(name: str, command: str, result: dict[str, Any]) -> str:
    """The result in Markdown."""
    note = "The miniature world stands in for DRAKE in structure; it is not DRAKE." if name == "miniature" else ""
    lines = [
        f"# {name}",
        "",
        f"Made by `{command}`; all figures in `{name}.json`.",
        "",
        "Accuracy in % after the last round: mean over seeds ± half-width of the 95 % t-interval; in brackets the paired",
        f"difference to local training (sft). Choices by option likelihood. {note}".strip(),
        "",
    ]
    for scenario, variants in result.items():
        seeds = sorted({seed for rows in variants.values() for seed in rows["seeds"]})
        lines += [f"## {scenario}, seeds {', '.join(map(str, seeds))}", ""]
        lines += ["| algorithm | " + " | ".join(COLUMNS) + " | MB up | seconds |", "|---" * (len(COLUMNS) + 3) + "|"]
        for variant, rows in variants.items():
            cells = []
            for column in COLUMNS:
                cell = f"{rows[column]['mean']:.1f} ± {rows[column]['ci95']:.1f}"
                gap = rows[column].get("minus sft")
                cells.append(cell + (f" ({gap['mean']:+.1f} ± {gap['ci95']:.1f})" if gap else ""))
            lines.append(
                f"| {variant} | " + " | ".join(cells) + f" | {rows['bytes']['up'] / 1e6:.1f} | {rows['seconds']:.0f} |"
            )
        lines.append("")
    return "\n".join(lines)


def short_table(result: dict[str, Any]) -> str:
    """Self and Others of every scenario and algorithm, for the README."""
    lines = ["| scenario | algorithm | Self | Others | Others − sft |", "|---|---|---|---|---|"]
    for scenario, variants in result.items():
        for variant, rows in variants.items():
            cells = [f"{rows[column]['mean']:.1f} ± {rows[column]['ci95']:.1f}" for column in ("Self", "Others")]
            gap = rows["Others"].get("minus sft")
            cells.append(f"{gap['mean']:+.1f} ± {gap['ci95']:.1f}" if gap else "")
            lines.append(f"| {scenario} | {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def into_readme(text: str) -> None:
    """Put a table between the README's marks."""
    path = HERE.parent / "README.md"
    before, _, rest = path.read_text().partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    path.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where run folders go")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time")
    parser.add_argument("--set", action="append", default=[], help="further settings of every run")
    parser.add_argument("--plan", choices=list(PLANS), default="miniature")
    parser.add_argument("--table", action="store_true", help="only write the result from the finished runs")
    arguments = parser.parse_args()
    plan = PLANS[arguments.plan]
    if not arguments.table:
        jobs = [(s, v, seed) for seed in arguments.seeds for s, variants in plan.items() for v in variants]
        with ThreadPoolExecutor(arguments.parallel) as pool:
            for job in [pool.submit(run, arguments.runs, *job, arguments.set) for job in jobs]:
                job.result()
    result = collect(arguments.runs, plan, arguments.seeds)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    command = "python benchmarks/miniature.py" + (f" --plan {arguments.plan}" if arguments.plan != "miniature" else "")
    command += "".join(f" --set {setting}" for setting in arguments.set)
    content = {"command": command, "seeds": arguments.seeds, "scenarios": result}
    text = table(arguments.plan, command, result)
    (results / f"{arguments.plan}.json").write_text(json.dumps(content, indent=1) + "\n")
    (results / f"{arguments.plan}.md").write_text(text + "\n")
    if arguments.plan == "miniature":
        into_readme(short_table(result))
    print(text)


if __name__ == "__main__":
    main()
