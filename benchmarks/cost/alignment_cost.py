"""A in closed form against the paper's gradient descent, side by side: what is left of it on held-out examples, and the time it takes.

Run:  python -m benchmarks.cost.alignment_cost [--examples 5000]      (one thread, on the CPU; about ten minutes)

Descent is what the authors' code does: AdamW at 5e-5 on batches of 4, one epoch over 5,000 examples; steps ten and a hundred times as
large are shown too. The closed form (ridge) sees 128 to 512 of them; with the most of them also under stronger ridges. Both make their
own forward passes of model and pivot, whose time is theirs, and see the same pivot: the principal directions of its inputs. Residual:
the share of the pivot's A x that is not in the model's, whatever its scale, on 256 examples that nobody is fitted to, meaned over 28
sites. Times are of the process, not of the clock. Then all of an alignment, A and B with the report, for the three miniatures at once, with
the defaults of the command (256 examples). Writes results/alignment_cost.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from benchmarks.common.paths import RESULTS
from fedmosaic.adapters import block_ends
from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment import AlignmentSettings, align
from fedmosaic.alignment.closed_form.descent import Descent
from fedmosaic.alignment.closed_form.moments import Matched, Moments
from fedmosaic.alignment.closed_form.observe import Observation, observe
from fedmosaic.alignment.closed_form.pivot import Pivot, random_subspaces
from fedmosaic.alignment.closed_form.solve import fit_ridge, residual
from fedmosaic.data import Example, public_examples
from fedmosaic.models.backbone import Backbone

PIVOT, MODELS = "miniature/llama-8x96", ("miniature/qwen2-10x112", "miniature/llama-12x128")
SIZES = (128, 256, 512)
RIDGES = (1e-2, 3e-2, 1e-1)
RATES = (5e-5, 5e-4, 5e-3)
HELD_OUT = 256
SETTINGS = AlignmentSettings(rank=16, held_out=1e-9)


class Pair:
    """A model and the pivot, seen through the inputs of their sites alone."""

    def __init__(self, model: Backbone, pivot: Backbone, examples: Sequence[Example]) -> None:
        self.model = model
        self.pivot = Pivot.of(pivot, examples, SETTINGS)
        self.sites = sites_of(block_ends(model.num_layers, SETTINGS.blocks), SETTINGS.modules)
        self.before = random_subspaces(model, self.sites, SETTINGS.rank, SETTINGS.seed)

    def batches(self, examples: Sequence[Example], size: int) -> Iterator[Matched]:
        settings = SETTINGS.model_copy(update={"batch_size": size})
        passes = [
            observe(backbone, sites, examples, settings, gradients=False)
            for backbone, sites in (
                (self.model, self.sites),
                (self.pivot.backbone, self.pivot.sites),
            )
        ]
        for own, seen in zip(*passes, strict=True):
            shown = {
                key: {"z": kinds["x"] @ self.pivot.subspaces[f"{key}.A"].t().float()}
                for key, kinds in seen.sites.items()
            }
            yield Matched(own, Observation(shown, seen.origins, seen.names))

    def moments(self, examples: Sequence[Example]) -> dict[str, Moments]:
        sums = {site.key: Moments() for site in self.sites}
        for matched in self.batches(examples, 64):
            for key, moments in sums.items():
                moments.update(*matched.rows(key, "input"))
        return sums

    def closed(self, examples: Sequence[Example], strength: float) -> dict[str, torch.Tensor]:
        return {
            key: fit_ridge(moments, strength) for key, moments in self.moments(examples).items()
        }

    def descent(self, examples: Sequence[Example], lr: float) -> dict[str, torch.Tensor]:
        descent = Descent(self.before, lr)
        for matched in self.batches(examples, 4):
            descent.update(matched)
        return {site.key: descent.solve(site.key) for site in self.sites}


def seconds(call: Any, *arguments: Any) -> tuple[float, Any]:
    started = time.process_time()
    result = call(*arguments)
    return time.process_time() - started, result


def compare(model: Backbone, pivot: Backbone, examples: Sequence[Example]) -> dict[str, Any]:
    fitted, held = examples[HELD_OUT:], examples[:HELD_OUT]
    for backbone in (model, pivot):  # encodings and image features are made once, for both
        for start in range(0, len(examples), 64):
            backbone.collate([backbone.encode(example) for example in examples[start : start + 64]])
    pair = Pair(model, pivot, fitted[: SIZES[-1]])
    judge = pair.moments(held)

    def left(maps: dict[str, torch.Tensor]) -> float:
        return mean(residual(judge[key], value) for key, value in maps.items())

    random = {site.key: pair.before[f"{site.key}.A"] for site in pair.sites}
    lines: list[dict[str, Any]] = [
        {"how": "random", "examples": 0, "seconds": 0.0, "residual": left(random)}
    ]
    for size, strength in [
        *((size, SETTINGS.ridge) for size in SIZES),
        *((SIZES[-1], ridge) for ridge in RIDGES),
    ]:
        spent, maps = seconds(pair.closed, fitted[:size], strength)
        how = f"closed form, ridge {strength:g}"
        lines.append({"how": how, "examples": size, "seconds": spent, "residual": left(maps)})
    for lr in RATES:
        spent, maps = seconds(pair.descent, fitted, lr)
        lines.append(
            {
                "how": f"descent, lr {lr:g}",
                "examples": len(fitted),
                "seconds": spent,
                "residual": left(maps),
            }
        )
    paper = next(line for line in lines if line["how"] == f"descent, lr {RATES[0]:g}")
    for line in lines:
        line["share_of_descents_time"] = line["seconds"] / paper["seconds"]
        print(f"  {line['how']:24s} {line['examples']:5d} examples {line['seconds']:8.2f} s  residual {line['residual']:.4f}"
              f"  {100 * line['share_of_descents_time']:6.1f} % of the descent's time")  # fmt: skip
    return {"model": model.name, "pivot": pivot.name, "results": lines}


def whole(models: Sequence[Backbone], pivot: Backbone) -> dict[str, Any]:
    """All of an alignment of all three, nothing known before."""
    examples = public_examples("miniature/public", 256)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEDMOSAIC_CACHE"] = folder
        ends: dict[str, float] = {}
        started = time.process_time()

        def mark(what: str, *_: int) -> None:
            ends[what] = time.process_time()

        spent, _ = seconds(align, [pivot, *models], pivot, examples, AlignmentSettings(), mark)
    stages = {
        what: later - earlier
        for (_, earlier), (what, later) in pairwise([("", started), *ends.items()])
    }
    print(f"  {len(models) + 1} models, 256 examples: {spent:.1f} s, of which {stages}")
    return {
        "models": [pivot.name, *(model.name for model in models)],
        "examples": 256,
        "seconds": spent,
        "stages": stages,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=RESULTS / "alignment_cost.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pivot, models = Backbone.load(PIVOT), [Backbone.load(name) for name in MODELS]
    found = {"whole": whole(models, pivot)}
    examples = list(public_examples("miniature/public", arguments.examples + HELD_OUT))
    found["comparisons"] = []
    for model in models:
        print(f"{model.name} to {pivot.name}")
        found["comparisons"].append(compare(model, pivot, examples))
    setting = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "device": "cpu",
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"setting": setting, **found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
