"""Compare the closed form that aligns A with the paper's gradient descent: residual and time.

  python -m benchmarks.cost.alignment_cost [--examples 5000]      10 minutes, one thread, on the CPU

Descent is what the authors' code does: AdamW at 5e-5 on batches of 4, one epoch over 5,000
examples; rates ten and a hundred times as high are shown, too. The closed form (ridge regression)
sees 128 to 512 examples, with the most of them also under stronger ridges. Both run their own
forward passes of model and pivot, which count in their time, and both fit the same pivot: the
principal directions of its inputs.

Residual: the share of the pivot's A x that is not in the model's A x, whatever its scale, on 256
examples that nothing is fitted to; mean over 28 sites. Times are of the process, not of the clock.

Also measured: a whole alignment of the three miniatures, A and B with the report, with the default
settings of ``fedmosaic align`` (256 examples). Writes results/alignment_cost.json.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from statistics import mean
from typing import Any

import torch

from benchmarks.common.arguments import benchmark_parser
from benchmarks.common.paths import write_result
from benchmarks.cost.descent import Descent
from fedmosaic.adapters.placement import Placement, sites_of
from fedmosaic.alignment import AlignmentSettings, align
from fedmosaic.alignment.closed_form.moments import MatchedBatch, PairMoments
from fedmosaic.alignment.closed_form.observe import Observation, observe
from fedmosaic.alignment.closed_form.pivot import Pivot, random_subspaces
from fedmosaic.alignment.closed_form.solve import fit_ridge, residual
from fedmosaic.data import Example, public_examples
from fedmosaic.models.backbone import Backbone
from fedmosaic.models.roles import PROJECTIONS

PIVOT, MODELS = "miniature/llama-8x96", ("miniature/qwen2-10x112", "miniature/llama-12x128")
SIZES = (128, 256, 512)
RIDGES = (1e-2, 3e-2, 1e-1)
RATES = (5e-5, 5e-4, 5e-3)
PAPERS_RATE = RATES[0]
HELD_OUT = 256
WHOLE = 256
SETTINGS = AlignmentSettings(held_out=1e-9)
PLACEMENT = Placement(r=16, num_blocks=4, modules=PROJECTIONS)


class Pair:
    """Fit A of a model to the pivot's A from the inputs of their sites.

    Attributes:
        model: the model.
        pivot: the pivot with its A and B.
        sites: the sites of the model.
        before: random A and B, from which descent starts.
    """

    def __init__(self, model: Backbone, pivot: Backbone, examples: Sequence[Example]) -> None:
        """Choose the pivot's A and B from examples, and draw random ones for the model."""
        self.model = model
        self.pivot = Pivot.of(pivot, examples, SETTINGS, PLACEMENT)
        self.sites = sites_of(PLACEMENT.block_ends(model.num_layers), PLACEMENT.modules)
        self.before = random_subspaces(model, self.sites, PLACEMENT.r, SETTINGS.seed)

    def batches(self, examples: Sequence[Example], size: int) -> Iterator[MatchedBatch]:
        """Yield the inputs of the model and the pivot's A x, matched token by token."""
        settings = SETTINGS.model_copy(update={"batch_size": size})
        passes = [
            observe(backbone, sites, examples, settings, gradients=False)
            for backbone, sites in (
                (self.model, self.sites),
                (self.pivot.backbone, self.pivot.sites),
            )
        ]
        for own, other in zip(*passes, strict=True):
            projected = {
                key: {"z": values["x"] @ self.pivot.subspaces[f"{key}.A"].t().float()}
                for key, values in other.sites.items()
            }
            yield MatchedBatch(own, Observation(projected, other.origins, other.example_ids))

    def moments(self, examples: Sequence[Example]) -> dict[str, PairMoments]:
        """Return the moments of all sites."""
        sums = {site.key: PairMoments() for site in self.sites}
        for matched in self.batches(examples, 64):
            for key, moments in sums.items():
                moments.update(*matched.rows(key, "input"))
        return sums

    def closed_form(self, examples: Sequence[Example], strength: float) -> dict[str, torch.Tensor]:
        """Return A of all sites by ridge regression."""
        return {
            key: fit_ridge(moments, strength) for key, moments in self.moments(examples).items()
        }

    def descent(self, examples: Sequence[Example], lr: float) -> dict[str, torch.Tensor]:
        """Return A of all sites by the paper's gradient descent."""
        descent = Descent(self.before, lr)
        for matched in self.batches(examples, 4):
            descent.update(matched)
        return {site.key: descent.solve(site.key) for site in self.sites}


def process_seconds(call: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the processor seconds of a call, and its result."""
    started = time.process_time()
    result = call(*arguments)
    return time.process_time() - started, result


def compare(model: Backbone, pivot: Backbone, examples: Sequence[Example]) -> dict[str, Any]:
    """Fit a model to the pivot in every way, and print and return residuals and times."""
    fitted, held_out = examples[HELD_OUT:], examples[:HELD_OUT]
    # Encodings and image features are cached now, so that neither way pays for them.
    for backbone in (model, pivot):
        for start in range(0, len(examples), 64):
            backbone.collate([backbone.encode(example) for example in examples[start : start + 64]])
    pair = Pair(model, pivot, fitted[: SIZES[-1]])
    judge = pair.moments(held_out)

    def line(how: str, size: int, seconds: float, maps: dict[str, torch.Tensor]) -> dict[str, Any]:
        left = mean(residual(judge[key], value) for key, value in maps.items())
        return {"how": how, "examples": size, "seconds": seconds, "residual": left}

    random = {site.key: pair.before[f"{site.key}.A"] for site in pair.sites}
    lines = [line("random", 0, 0.0, random)]
    for size, ridge in [
        *((size, SETTINGS.ridge) for size in SIZES),
        *((SIZES[-1], ridge) for ridge in RIDGES),
    ]:
        spent, maps = process_seconds(pair.closed_form, fitted[:size], ridge)
        lines.append(line(f"closed form, ridge {ridge:g}", size, spent, maps))
    for lr in RATES:
        spent, maps = process_seconds(pair.descent, fitted, lr)
        lines.append(line(f"descent, lr {lr:g}", len(fitted), spent, maps))
    paper = next(found for found in lines if found["how"] == f"descent, lr {PAPERS_RATE:g}")
    for found in lines:
        share = found["seconds"] / paper["seconds"]
        found["share_of_descents_time"] = share
        print(
            f"  {found['how']:24s} {found['examples']:5d} examples {found['seconds']:8.2f} s  "
            f"residual {found['residual']:.4f}  {100 * share:6.1f} % of the descent's time"
        )
    return {"model": model.name, "pivot": pivot.name, "results": lines}


def whole_alignment(models: Sequence[Backbone], pivot: Backbone) -> dict[str, Any]:
    """Measure a whole alignment of all models with an empty cache."""
    examples = public_examples("miniature/public", WHOLE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FEDMOSAIC_CACHE"] = folder
        ends: dict[str, float] = {}
        started = time.process_time()

        def mark(what: str, *_: int) -> None:
            ends[what] = time.process_time()

        spent, _ = process_seconds(
            align, [pivot, *models], pivot, examples, AlignmentSettings(), PLACEMENT, mark
        )
    stages = {
        what: later - earlier
        for (_, earlier), (what, later) in pairwise([("", started), *ends.items()])
    }
    print(f"  {len(models) + 1} models, {WHOLE} examples: {spent:.1f} s, of which {stages}")
    return {
        "models": [pivot.name, *(model.name for model in models)],
        "examples": WHOLE,
        "seconds": spent,
        "stages": stages,
    }


def main() -> None:
    """Measure, print and write the result."""
    parser = benchmark_parser(__doc__)
    parser.add_argument(
        "--examples",
        type=int,
        default=5000,
        help="examples of the descent (default: %(default)s)",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pivot, models = Backbone.load(PIVOT), [Backbone.load(name) for name in MODELS]
    whole = whole_alignment(models, pivot)
    examples = list(public_examples("miniature/public", arguments.examples + HELD_OUT))
    comparisons = []
    for model in models:
        print(f"{model.name} to {pivot.name}")
        comparisons.append(compare(model, pivot, examples))
    setting = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "dtype": "float32",
        "device": "cpu",
    }
    content = {"setting": setting, "whole": whole, "comparisons": comparisons}
    write_result("alignment_cost", content, indent=2)


if __name__ == "__main__":
    main()
