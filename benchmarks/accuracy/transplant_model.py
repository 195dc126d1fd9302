"""Train P, Q of several tasks at once on a frozen model with given A and B, and score them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from benchmarks.accuracy.injection import Injection
from fedmosaic.adapters.placement import sites_of
from fedmosaic.alignment import REFINED
from fedmosaic.alignment.closed_form.pivot import random_subspaces
from fedmosaic.alignment.standalone import StandaloneSettings
from fedmosaic.data.example import Example, Turn
from fedmosaic.miniature.benchmark.load import load_task
from fedmosaic.models.backbone import Backbone
from fedmosaic.seeding import generator

RANK = REFINED["r"]
STEPS, PER_TASK, ITEMS = 80, 4, 100
RELABELLED = "relabelled"
# Name the draws of examples; published runs depend on them.
DRAWS = {"own": "own", RELABELLED: "other"}
Pair = tuple[Tensor, Tensor]  # P (sites, tasks, r, r) and Q (sites, tasks, r)


def alignment_settings(method: str, **changes: Any) -> StandaloneSettings:
    """Return the settings of a way to choose A and B.

    Args:
        method: ``outputs``, ``gradients`` or ``refined``.
        **changes: further settings.
    """
    refined = REFINED if method == "refined" else {**REFINED, "refine": None}
    fitted = "gradients" if method == "refined" else method
    return StandaloneSettings.model_validate({**refined, "method": fitted, **changes})


def relabel(examples: Sequence[Example]) -> list[Example]:
    """Return the examples with their answer words exchanged.

    Images, question and words stay the same; every word stands for what its neighbour in the
    sorted list of words stood for.
    """
    words = sorted({word for example in examples for word in example.options})
    other = dict(zip(words, [*words[1:], words[0]], strict=True))
    found = []
    for example in examples:
        options = tuple(other[word] for word in example.options)
        text = example.question.replace(", ".join(example.options), ", ".join(options))
        turns = (Turn("user", text), Turn("assistant", other[example.answer]))
        found.append(replace(example, turns=turns, options=options, spellings=()))
    return found


@dataclass(frozen=True)
class Batch:
    """Embedded examples of several tasks, equally many of each, task by task.

    Attributes:
        embedded: input embeddings (examples, tokens, width).
        mask: attention mask (examples, tokens).
        options: first token of each option (examples, options).
        right: index of the right option (examples).
    """

    embedded: Tensor
    mask: Tensor
    options: Tensor
    right: Tensor

    @classmethod
    def of(cls, model: Backbone, examples: Sequence[Example]) -> Batch:
        """Embed examples."""
        batch = model.collate([model.encode(example, answer=False) for example in examples])
        options = torch.tensor(
            [[model.answer_ids(word)[0] for word in example.options] for example in examples]
        )
        right = torch.tensor([example.options.index(example.answer) for example in examples])
        return cls(_embedded(model, batch.inputs), batch.attention_mask, options, right)

    def __getitem__(self, rows: Tensor) -> Batch:
        return Batch(self.embedded[rows], self.mask[rows], self.options[rows], self.right[rows])


@torch.no_grad()
def _embedded(model: Backbone, inputs: dict[str, Any]) -> Tensor:
    """Return what enters the first decoder layer, [examples, tokens, width]."""
    caught: list[Tensor] = []
    handle = model.language_layers[0].register_forward_pre_hook(
        lambda _, args, kwargs: caught.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    model.model(**inputs, logits_to_keep=1, use_cache=False)
    handle.remove()
    return caught[0]


class Model:
    """A miniature with A and B on its sites, and the data of some tasks.

    Attributes:
        backbone: the frozen model.
        tasks: names of the tasks.
        sites: the projections that carry Co-LoRA.
        test: test examples of all tasks.
        examples: training examples of all tasks, as they are (``own``) and with exchanged answers
            (``relabelled``).
        train: the same, embedded.
        subspaces: A and B by tensor key; random until they are set.
    """

    def __init__(self, backbone: Backbone, tasks: Sequence[str], seed: int) -> None:
        """Load the tasks with a seed and draw random A and B."""
        self.backbone, self.tasks = backbone, tasks
        placement = alignment_settings("gradients").placement
        self.sites = sites_of(placement.block_ends(backbone.num_layers), placement.modules)
        data = [load_task(name, seed=seed, train_limit=ITEMS, test_limit=ITEMS) for name in tasks]
        self.test = Batch.of(backbone, [example for task in data for example in task.test])
        self.examples = {
            "own": [example for task in data for example in task.train],
            RELABELLED: [example for task in data for example in relabel(task.train)],
        }
        self.train = {kind: Batch.of(backbone, found) for kind, found in self.examples.items()}
        pair = random_subspaces(backbone, self.sites, RANK, 0)
        self.subspaces: Mapping[str, Tensor] = {key: value.float() for key, value in pair.items()}

    def logits(self, batch: Batch, pair: Pair) -> Tensor:
        """Return the logits of the first answer token, with each task's P, Q on its examples."""
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
        """Return P, Q of zeros for every task."""
        shape = len(self.sites), len(self.tasks), RANK, RANK
        return torch.zeros(shape), torch.zeros(shape[:3])

    @torch.no_grad()
    def accuracy(self, pair: Pair, scale: float = 1.0) -> list[float]:
        """Return the test accuracy of each task with P, Q times a scale."""
        scaled = (pair[0] * scale, pair[1] * scale)
        logits = self.logits(self.test, scaled).gather(1, self.test.options)
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
        """Train P, Q of every task; the tasks do not influence one another.

        Args:
            which: ``own`` or ``relabelled``.
            choice: learning ``rate``, and the second ``moment``: one a ``tensor`` or an ``entry``.
            seed: seed of the order of examples.
            steps: number of steps.
            items: number of training examples of each task.
            start: P, Q to start from (default: zero).
        """
        p, q = start or self.zero()
        pair = p.clone().requires_grad_(), q.clone().requires_grad_()
        adam = Adam(pair, choice["rate"], whole_tensor=choice["moment"] == "tensor")
        draw = generator("transplant", seed, DRAWS[which])
        first = ITEMS * torch.arange(len(self.tasks))[:, None]
        for _ in range(steps):
            rows = torch.randint(items, (len(self.tasks), PER_TASK), generator=draw) + first
            batch = self.train[which][rows.flatten()]
            right = batch.options.gather(1, batch.right[:, None])[:, 0]
            loss = torch.nn.functional.cross_entropy(
                self.logits(batch, pair), right, reduction="none"
            )
            loss.view(len(self.tasks), PER_TASK).mean(1).sum().backward()
            adam.step()
        return pair[0].detach(), pair[1].detach()


class Adam:
    """Adam (β 0.9, 0.999) for P, Q of several tasks, whose gradient norms are clipped to 1.

    Attributes:
        pair: the trained tensors (sites, tasks, …).
        rate: learning rate.
        whole_tensor: whether a tensor of one task has one second moment, or each entry has its own.
        moments: first and second moments of each tensor.
        count: number of steps done.
    """

    def __init__(self, pair: Sequence[Tensor], rate: float, *, whole_tensor: bool) -> None:
        """Start with moments of zero."""
        self.pair, self.rate, self.whole_tensor, self.count = pair, rate, whole_tensor, 0
        self.moments = [(torch.zeros_like(value), torch.zeros_like(value)) for value in pair]

    @torch.no_grad()
    def step(self) -> None:
        """Update the tensors by their gradients, and clear the gradients."""
        self.count += 1
        gradients = [value.grad for value in self.pair if value.grad is not None]
        squares = [gradient.square().flatten(2).sum((0, 2)) for gradient in gradients]
        norm = torch.stack(squares).sum(0).sqrt()
        factor = (1 / (norm + 1e-6)).clamp(max=1.0)
        for value, gradient, (first, second) in zip(
            self.pair, gradients, self.moments, strict=True
        ):
            clipped = gradient * factor.view(1, -1, *[1] * (gradient.dim() - 2))
            square = clipped.square()
            if self.whole_tensor:
                square = square.mean(tuple(range(2, square.dim())), keepdim=True).expand_as(square)
            first.lerp_(clipped, 0.1)
            second.lerp_(square, 0.001)
            size = (second / (1 - 0.999**self.count)).sqrt() + 1e-8
            value.sub_(self.rate * first / (1 - 0.9**self.count) / size)
            value.grad = None
