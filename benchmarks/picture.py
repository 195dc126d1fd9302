"""The picture of the README: Self against Others on the miniature benchmark, with intervals.

python benchmarks/picture.py        # reads results/miniature.json, writes docs/miniature.svg
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

HERE = Path(__file__).parent
TITLES = {"miniature/hetero": "three architectures, two families", "miniature/homo-llama": "one architecture"}
COLOURS = {"sft": "#6b7280", "fedavg": "#d97706", "fedmosaic": "#2563eb"}


def panel(axes: Any, variants: dict[str, Any], title: str) -> None:
    """One scenario: a point with error bars for each algorithm."""
    for name, rows in variants.items():
        colour = COLOURS.get(name.split(",")[0], "#2563eb")
        hollow = "," in name
        axes.errorbar(
            rows["Others"]["mean"],
            rows["Self"]["mean"],
            xerr=rows["Others"]["ci95"],
            yerr=rows["Self"]["ci95"],
            fmt="o",
            color=colour,
            markerfacecolor="white" if hollow else colour,
            alpha=0.55 if hollow else 1.0,
            capsize=3,
            label=name,
        )
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("Others: accuracy on the other clients' tasks, %")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8, frameon=False)


def main() -> None:
    """Read the result file and draw it."""
    scenarios = json.loads((HERE / "results" / "miniature.json").read_text())["scenarios"]
    plt.rcParams["svg.hashsalt"] = "fedmosaic"  # the same picture for the same figures
    figure, axes = plt.subplots(1, len(scenarios), figsize=(5.2 * len(scenarios), 3.9), squeeze=False, sharey=True)
    for place, (name, variants) in zip(axes[0], scenarios.items(), strict=True):
        panel(place, variants, f"{name} ({TITLES.get(name, '')})")
    axes[0][0].set_ylabel("Self: accuracy on own tasks, %")
    figure.tight_layout()
    out = HERE.parent / "docs" / "miniature.svg"
    out.parent.mkdir(exist_ok=True)
    figure.savefig(out, metadata={"Date": None})
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
