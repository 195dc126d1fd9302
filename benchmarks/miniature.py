"""The algorithms of the library on the miniature benchmark, several seeds each, with paired intervals.

    python benchmarks/miniature.py                       # everything, as many runs at a time as cores and memory allow
    python benchmarks/miniature.py --plan easy-vqa       # the same on real images
    python benchmarks/miniature.py --table               # only write the table again from the finished comparisons

Every scenario is one comparison (``fedmosaic compare``) in a folder below --runs, and the same command again goes on where it was
stopped. The result is ``benchmarks/results/<plan>.json`` and ``<plan>.md``. Local steps a round are those of
equal compute in the paper, 94 of FedMosaic for 100 of the others, rounded down to 11 for 12 here; counted on these small models it would
be 10 (``--set budget=flops``). The miniature world stands in for DRAKE in structure; it is not DRAKE.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import fedmosaic
from fedmosaic.comparison.variants import Variant, slug
from fedmosaic.reporting.comparison import LEGEND, markdown_tables

HERE = Path(__file__).parent
SEEDS = (0, 1, 2)
SFT, FEDAVG, FEDMOSAIC = (Variant(name, name) for name in ("sft", "fedavg", "fedmosaic"))
# The control has RELA's weights at the wrong peers.
PERMUTED = Variant("fedmosaic, permuted relevance", "fedmosaic", ("relevance.kind=permuted",))
PLANS = {
    "miniature": {
        "miniature/hetero": [SFT, FEDAVG, FEDMOSAIC, PERMUTED],
        "miniature/homo-llama": [SFT, FEDAVG, FEDMOSAIC],
    },
    "easy-vqa": {"easy-vqa": [SFT, FEDAVG, FEDMOSAIC]},
}


def table(name: str, command: str, result: dict[str, Any]) -> str:
    """The result in Markdown."""
    note = " The miniature world stands in for DRAKE in structure; it is not DRAKE." if name == "miniature" else ""
    lines = [
        f"# {name}",
        "",
        f"Made by `{command}`; all figures in `{name}.json`.",
        "",
        f"{LEGEND} Choices by option likelihood.{note}",
        "",
    ]
    for scenario, rows in result.items():
        lines += markdown_tables(scenario, rows)
    return "\n".join(lines)


def main() -> None:
    """Parse, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmark"), help="where the comparisons go")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--jobs", type=int, default=0, help="runs at a time (default: chosen)")
    parser.add_argument("--set", action="append", default=[], help="further settings of every run")
    parser.add_argument("--plan", choices=list(PLANS), default="miniature")
    parser.add_argument("--table", action="store_true", help="only write the result from the finished comparisons")
    arguments = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    result: dict[str, Any] = {}
    for scenario, variants in PLANS[arguments.plan].items():
        folder = arguments.runs / slug(scenario)
        if not arguments.table:
            fedmosaic.compare(
                scenario, algorithms=variants, seeds=arguments.seeds, set=arguments.set, out=folder, jobs=arguments.jobs
            )
        result[scenario] = fedmosaic.show(folder)["algorithms"]
    command = "python benchmarks/miniature.py" + (f" --plan {arguments.plan}" if arguments.plan != "miniature" else "")
    command += "".join(f" --set {setting}" for setting in arguments.set)
    content = {"command": command, "seeds": arguments.seeds, "scenarios": result}
    text = table(arguments.plan, command, result)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / f"{arguments.plan}.json").write_text(json.dumps(content, indent=1) + "\n")
    (results / f"{arguments.plan}.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
