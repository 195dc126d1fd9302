"""The transplant test: P and Q learned for a task by one model, put into a model of another architecture, which is not trained.

Run:  python -m benchmarks.accuracy.transplant --choose --job 0 --job 1 --job 2 --job 3 --job 4
      (one thread; about 15 minutes a job, which can
      run side by side), then  python -m benchmarks.accuracy.transplant_table

A job is one seed of data and training on one pretraining of the bundled models; A and B are the same in all jobs of a pretraining. In it,
for every *variant* of A and B (random, fitted to outputs, fitted to output gradients, refined), at equal sites (o_proj of 8 layers, rank
64) and equal strength (as refinement scales its own), from equal public data, each of the three models learns each task (80 steps of 4
examples; P, Q alone are trained) and gives its P, Q to the two others: six directions. Scores are accuracies on 100 test items, of the
options' first tokens. Tasks:

  near: the public pictures show such things (colours, shapes, counts).   far: they do not (unknown symbols), or nobody asked such a thing
  (what comes between two pictures). No pseudo-task of the refinement has seen any of these families.

``other`` is the control: P, Q of a task with the same pictures, question and answer words, which stand for other things. ``own`` is the
receiver's own training, the ceiling, at the variant's rate and, as ``best``, at that which suits it most. ``warm``: the receiver trains 15
steps on 20 examples from the received P, Q; ``cold`` the same from zero. Learning rate, kind of second moment and the scale of what is
received are chosen for each variant on two other tasks under another seed (``--choose``). Writes results/transplant/<job>.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import torch
from torch import Tensor

from benchmarks.common.paths import RESULTS
from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment import REFINED, AlignmentSettings, align
from fedmosaic.alignment.closed_form.pivot import random_subspaces
from fedmosaic.alignment.correspondence.depth import depth_ends
from fedmosaic.alignment.hooks import Injection
from fedmosaic.alignment.refinement.closed_form import agreement, balance
from fedmosaic.alignment.refinement.effects import trace
from fedmosaic.alignment.refinement.traces import Questions
from fedmosaic.data.example import Example, Turn
from fedmosaic.miniature.benchmark.load import load_task, public_set
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator

MODELS = ("llama-8x96", "qwen2-10x112", "llama-12x128")  # the first is the pivot
NEAR = ("wardrobe-0", "quality-0", "icon-0")
FAR = ("cuisine-0", "cuisine-3", "cloze-0")
CHOOSE = ("stages-0", "idiom-3")
VARIANTS = ("random", "outputs", "gradients", "refined")
JOBS = ((0, 0), (0, 1), (0, 2), (1, 3), (1, 4))  # pretraining, seed
CHOOSING_SEED = 1000
STEPS, PER, WARM_STEPS, WARM_ITEMS, ITEMS = 80, 4, 15, 20, 100
RATES = ((0.003, "tensor"), (0.01, "tensor"), (0.003, "entry"))
SCALES = (1.0, 2.0, 3.0, 4.0)
PUBLIC = 1500
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Batch:
    """Embedded examples of some tasks, equally many of each, in order; ``options`` and ``right``: first tokens."""

    embedded: Tensor
    mask: Tensor
    options: Tensor
    right: Tensor

    @classmethod
    def of(cls, model: Backbone, examples: Sequence[Example]) -> Batch:
        batch = model.collate([model.encode(example, answer=False) for example in examples])
        options = torch.tensor(
            [[model.answer_ids(word)[0] for word in example.options] for example in examples]
        )
        right = torch.tensor([example.options.index(example.answer) for example in examples])
        return cls(model.embed(batch).detach(), batch.attention_mask, options, right)

    def __getitem__(self, rows: Tensor) -> Batch:
        return Batch(self.embedded[rows], self.mask[rows], self.options[rows], self.right[rows])


class Model:
    """One of the miniatures with a choice of A and B on its sites, and the tasks."""

    def __init__(self, backbone: Backbone, tasks: Sequence[str], seed: int) -> None:
        self.backbone, self.tasks = backbone, tasks
        self.sites = sites_of(
            depth_ends(backbone.num_layers, settings("gradients")), REFINED["modules"]
        )
        data = [load_task(name, seed=seed, train_limit=ITEMS, test_limit=ITEMS) for name in tasks]
        train = [example for task in data for example in task.train]
        self.test = Batch.of(backbone, [example for task in data for example in task.test])
        self.train = {"own": Batch.of(backbone, train)}
        self.train["other"] = Batch.of(
            backbone, [each for task in data for each in exchanged(task.train)]
        )
        pair = random_subspaces(backbone, self.sites, REFINED["rank"], 0)
        self.subspaces: Mapping[str, Tensor] = {key: value.float() for key, value in pair.items()}

    def logits(self, batch: Batch, pair: Pair) -> Tensor:
        """Of each example's options."""
        with Injection(self.backbone, self.sites, self.subspaces)(*pair):
            output = self.backbone.model(
                inputs_embeds=batch.embedded,
                attention_mask=batch.mask,
                logits_to_keep=1,
                use_cache=False,
            )
        logits: Tensor = output.logits[:, -1]
        return logits

    def zero(self) -> Pair:
        shape = len(self.sites), len(self.tasks), REFINED["rank"], REFINED["rank"]
        return torch.zeros(shape), torch.zeros(shape[:3])

    @torch.no_grad()
    def accuracy(self, pair: Pair, scale: float = 1.0) -> list[float]:
        """For each task."""
        logits = self.logits(self.test, (pair[0] * scale, pair[1] * scale)).gather(
            1, self.test.options
        )
        hits = logits.argmax(1).eq(self.test.right).float().view(len(self.tasks), -1)
        return [round(value, 4) for value in hits.mean(1).tolist()]

    def learn(
        self,
        which: str,
        choice: Mapping[str, Any],
        seed: int,
        steps: int = STEPS,
        items: int = ITEMS,
        start: Pair | None = None,
    ) -> Pair:
        """P, Q of every task by Adam from ``start`` (default zero): those of one task never meet those of another."""
        pair = tuple(value.clone().requires_grad_() for value in (start or self.zero()))
        adam = Adam(pair, choice["rate"], whole=choice["moment"] == "tensor")
        draw = generator("transplant", seed, which)
        first = ITEMS * torch.arange(len(self.tasks))[:, None]
        for _ in range(steps):
            batch = self.train[which][
                (torch.randint(items, (len(self.tasks), PER), generator=draw) + first).flatten()
            ]
            right = batch.options.gather(1, batch.right[:, None])[:, 0]
            loss = torch.nn.functional.cross_entropy(
                self.logits(batch, pair), right, reduction="none"
            )
            loss.view(len(self.tasks), PER).mean(1).sum().backward()
            adam.step()
        return pair[0].detach(), pair[1].detach()


class Adam:
    """Adam (β 0.9, 0.999) with the gradient norm of each task clipped to 1; one second moment a tensor, or one an entry."""

    def __init__(self, pair: Sequence[Tensor], rate: float, *, whole: bool) -> None:
        self.pair, self.rate, self.whole, self.count = pair, rate, whole, 0
        self.moments = [(torch.zeros_like(value), torch.zeros_like(value)) for value in pair]

    @torch.no_grad()
    def step(self) -> None:
        self.count += 1
        gradients = [value.grad for value in self.pair if value.grad is not None]
        norm = (
            torch.stack([gradient.square().flatten(2).sum((0, 2)) for gradient in gradients])
            .sum(0)
            .sqrt()
        )
        factor = (1 / (norm + 1e-6)).clamp(max=1.0)
        for value, gradient, (first, second) in zip(
            self.pair, gradients, self.moments, strict=True
        ):
            clipped = gradient * factor.view(1, -1, *[1] * (gradient.dim() - 2))
            square = clipped.square()
            if self.whole:
                square = square.mean(tuple(range(2, square.dim())), keepdim=True).expand_as(square)
            first.lerp_(clipped, 0.1)
            second.lerp_(square, 0.001)
            size = (second / (1 - 0.999**self.count)).sqrt() + 1e-8
            value.sub_(self.rate * first / (1 - 0.9**self.count) / size)
            value.grad = None


def exchanged(examples: Sequence[Example]) -> list[Example]:
    """The same pictures, question and words, but every answer word stands for what its neighbour stood for."""
    words = sorted({word for example in examples for word in example.options})
    other = dict(zip(words, [*words[1:], words[0]], strict=True))
    found = []
    for example in examples:
        options = tuple(other[word] for word in example.options)
        text = example.question.replace(", ".join(example.options), ", ".join(options))
        found.append(
            replace(
                example,
                turns=(Turn("user", text), Turn("assistant", other[example.answer])),
                options=options,
            )
        )
    return found


def settings(method: str, **changes: Any) -> AlignmentSettings:
    refined = REFINED if method == "refined" else {**REFINED, "refine": None}
    how = "gradients" if method == "refined" else method
    return AlignmentSettings.model_validate({**refined, "method": how, **changes})


def subspaces(models: Sequence[Model], variant: str) -> tuple[list[dict[str, Tensor]], list[Any]]:
    """A and B of every model, and what alignment says of them."""
    backbones = [model.backbone for model in models]
    public = list(public_set(PUBLIC, 0))
    reports: list[Any] = [None] * len(models)
    if variant == "random":
        pairs = [
            random_subspaces(model.backbone, model.sites, REFINED["rank"], 0) for model in models
        ]
    else:
        aligned = align(backbones, backbones[0], public, settings(variant))
        pairs, reports = (
            [dict(one.tensors) for one in aligned],
            [dict(one.report) for one in aligned],
        )
    pairs = [{key: value.float() for key, value in pair.items()} for pair in pairs]
    if variant == "refined":
        return pairs, reports
    questions = Questions.of(
        backbones[0], public, settings("refined", refine={"questions": 20})
    ).fitted
    looked = [
        [trace(model.backbone, model.sites, question) for question in questions] for model in models
    ]
    shares = agreement(pairs, looked)
    return [balance(pair, own, shares) for pair, own in zip(pairs, looked, strict=True)], reports


def backbones(pretraining: int) -> list[Backbone]:
    return [
        Backbone.load(f"miniature/{name}" + (f"@{pretraining}" if pretraining else ""))
        for name in MODELS
    ]


def directions(models: Sequence[Model]) -> Iterator[tuple[str, int, int]]:
    for giver, taker in permutations(range(len(models)), 2):
        yield f"{MODELS[giver]} -> {MODELS[taker]}", giver, taker


def choose() -> dict[str, Any]:
    """For each variant the rate, moment and scale at which most moves; ``best``: those at which a model itself learns most."""
    models = [Model(backbone, CHOOSE, CHOOSING_SEED) for backbone in backbones(0)]
    chosen: dict[str, Any] = {}
    for variant in VARIANTS:
        for model, pair in zip(models, subspaces(models, variant)[0], strict=True):
            model.subspaces = pair
        moved, own = {}, {}
        for rate, moment in RATES:
            learned = [
                model.learn("own", {"rate": rate, "moment": moment}, CHOOSING_SEED)
                for model in models
            ]
            each = [model.accuracy(pair) for model, pair in zip(models, learned, strict=True)]
            own[rate, moment] = mean(each)
            for scale in SCALES:
                moved[rate, moment, scale] = mean(
                    [
                        models[to].accuracy(learned[giver], scale)
                        for _, giver, to in directions(models)
                    ]
                )
        (rate, moment, scale), (best_rate, best_moment) = (
            max(moved, key=moved.__getitem__),
            max(own, key=own.__getitem__),
        )
        chosen[variant] = {
            "moved": {"rate": rate, "moment": moment, "scale": scale},
            "best": {"rate": best_rate, "moment": best_moment},
            "accuracy": {"moved": moved[rate, moment, scale], "best": own[best_rate, best_moment]},
        }
        print(variant, json.dumps(chosen[variant]), flush=True)
    return chosen


def mean(rows: Sequence[Sequence[float]]) -> float:
    return sum(map(sum, rows)) / sum(map(len, rows))


def job(pretraining: int, seed: int, chosen: Mapping[str, Any]) -> dict[str, Any]:
    tasks = (*NEAR, *FAR)
    models = [Model(backbone, tasks, seed) for backbone in backbones(pretraining)]
    found: dict[str, Any] = {
        "pretraining": pretraining,
        "seed": seed,
        "tasks": tasks,
        "variants": {},
    }
    found["zero"] = {
        name: model.accuracy(model.zero()) for name, model in zip(MODELS, models, strict=True)
    }
    for variant in VARIANTS:
        pairs, reports = subspaces(models, variant)
        for model, pair in zip(models, pairs, strict=True):
            model.subspaces = pair
        choice, best = chosen[variant]["moved"], chosen[variant]["best"]
        learned = {
            which: [model.learn(which, choice, seed) for model in models]
            for which in ("own", "other")
        }
        again = {key: best[key] for key in ("rate", "moment")} != {
            key: choice[key] for key in ("rate", "moment")
        }
        most = [model.learn("own", best, seed) for model in models] if again else learned["own"]
        warm = {"steps": WARM_STEPS, "items": WARM_ITEMS}
        lines: dict[str, Any] = {
            "own": {n: m.accuracy(p) for n, m, p in zip(MODELS, models, learned["own"], strict=True)},
            "best": {n: m.accuracy(p) for n, m, p in zip(MODELS, models, most, strict=True)},
            "cold": {n: m.accuracy(m.learn("own", choice, seed, **warm)) for n, m in zip(MODELS, models, strict=True)},
            "moved": {}, "other": {}, "warm": {}, "cosine": {},
        }  # fmt: skip
        for name, giver, taker in directions(models):
            model, scale = models[taker], choice["scale"]
            p, q = learned["own"][giver]
            lines["moved"][name] = model.accuracy((p, q), scale)
            lines["other"][name] = model.accuracy(learned["other"][giver], scale)
            lines["warm"][name] = model.accuracy(
                model.learn("own", choice, seed, start=(p * scale, q * scale), **warm)
            )
            similar = torch.nn.functional.cosine_similarity(
                p.transpose(0, 1).flatten(1), learned["own"][taker][0].transpose(0, 1).flatten(1)
            )
            lines["cosine"][name] = [round(value, 4) for value in similar.tolist()]
        if variant == "refined":
            lines["refinement"] = {
                n: report["refinement"] for n, report in zip(MODELS, reports, strict=True)
            }
        found["variants"][variant] = lines
        print(
            pretraining,
            seed,
            variant,
            {k: round(mean(list(v.values())), 3) for k, v in lines.items() if k != "refinement"},
            flush=True,
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--choose", action="store_true", help="choose rates and scales first")
    parser.add_argument("--job", type=int, action="append", default=[], choices=range(len(JOBS)))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = RESULTS / "transplant"
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.choose:
        (folder / "chosen.json").write_text(json.dumps(choose(), indent=1) + "\n")
    chosen = json.loads((folder / "chosen.json").read_text())
    for number in arguments.job:
        found = job(*JOBS[number], chosen)
        (folder / f"{number}.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
