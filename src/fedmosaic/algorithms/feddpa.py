"""FedDPA: an averaged and a personal adapter, mixed anew for every input by how like the client's training data it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from fedmosaic.algorithms.base import Client, FitReport
from fedmosaic.algorithms.common.activation import activate
from fedmosaic.algorithms.common.dual import Dual
from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.chat import IGNORE

REFERENCES = "references"


class FedDPA(Dual):
    """Dual personalising adapters. In a round the client trains, each with half of the steps,

        local   h = W x + a Δ_L(x) + (1 − a) Ĝ(x)          beside the received adapter Ĝ, which is frozen
        global  h = W x + Δ_G(x)                           from Ĝ on; uploaded and averaged as in FedAvg

    and answers an input x with weights of its own (instance-wise dynamic weighting)

        h = W x + α(x) Δ_L(x) + (1 − α(x)) Ĝ(x),        α(x) = λ · 1/S Σ_s cos(e(x), e(x_s))

    where e is the last layer's hidden state of the prompt's last token under the local adapter, and x_1 … x_S are training samples,
    drawn anew each round from those the client saw in it. A client that has not trained yet uses Ĝ alone.

    This is the variant that trains both adapters in every round (FedDPA-T); the other one trains the local adapters after the last.

    Source: Yang et al. 2024 (NeurIPS; arXiv 2403.19211), section 4; a = λ = ½, S = 5 and the order: the authors' code.
    """

    name: ClassVar[str] = "feddpa"
    summary: ClassVar[str] = "averaged and personal adapter, mixed anew for every input"
    paper: ClassVar[str] = "Yang et al. 2024 (NeurIPS; arXiv 2403.19211)"
    adapters: ClassVar[tuple[str, ...]] = ("local", "global", "received")
    views: ClassVar[tuple[str, ...]] = ("mixed", "local", "global")
    mixtures: ClassVar[Mapping[str, Mapping[str, float]]] = {
        "mixed": {"received": 1.0},
        "local": {"local": 1.0},
        "global": {"global": 1.0},
    }

    class Options(Dual.Options):
        """``lam``: λ, the largest weight of the local adapter. ``instances``: S. ``training_weight``: a."""

        lam: float = Field(default=0.5, ge=0, le=1)
        instances: int = Field(default=5, ge=1)
        training_weight: float = Field(default=0.5, gt=0, le=1)

    def train(self, client: Client) -> FitReport:
        seen: list[Example] = []

        def remember(_: int, examples: Sequence[Example]) -> None:
            seen.extend(examples)

        a, half = self.options.training_weight, self.steps // 2
        activate(client.model, {"local": a, "received": 1 - a}, train=("local",))
        personal = client.fit(half, each_step=remember)
        activate(client.model, {"global": 1.0}, train=("global",))
        shared = client.fit(self.steps - half, each_step=remember)
        order = torch.randperm(len(seen), generator=client.generator(REFERENCES)).tolist()
        client.state[REFERENCES] = self._represent(
            client, [seen[i] for i in order[: self.options.instances]]
        ).cpu()
        return personal.add_work(shared)

    def _represent(self, client: Client, examples: Sequence[Example]) -> Tensor:
        backbone = client.backbone
        batch = backbone.collate([backbone.encode(example, answer=False) for example in examples])
        activate(client.model, {"local": 1.0})
        return represent(client.model, backbone, batch)

    @contextmanager
    def view(self, client: Client, name: str) -> Iterator[Any]:
        with super().view(client, name) as model:
            references = client.state.get(REFERENCES)
            if name == "mixed" and references is not None:
                yield InstanceWise(model, client.backbone, references, self.options.lam)
            else:
                yield model


class InstanceWise:
    """A model that weighs ``local`` against ``received`` for each sequence of the batch that it was last shown.

    Args:
        references: representations of training samples, [S, hidden].
        lam: λ.
    """

    def __init__(self, model: Any, backbone: Backbone, references: Tensor, lam: float) -> None:
        self.model, self.backbone, self.references, self.lam = model, backbone, references, lam

    def prepare(self, batch: Batch) -> None:
        """Weigh the adapters for these prompts, which may be followed by answers."""
        activate(self.model, {"local": 1.0})
        seen = represent(self.model, self.backbone, batch)
        alike = functional.cosine_similarity(seen[:, None], self.references.to(seen)[None], dim=-1)
        alpha = self.lam * alike.mean(1)
        activate(self.model, {"local": alpha, "received": 1 - alpha})

    def __call__(self, **inputs: Any) -> Any:
        return self.model(**inputs)


@torch.no_grad()
def represent(model: Any, backbone: Backbone, batch: Batch) -> Tensor:
    """The last hidden state, after the final norm, at the last token of each prompt: [n, hidden] in float32.

    That is the last column without a label: answers, where there are any, end the sequences and are labelled.
    """
    caught: list[Tensor] = []
    norm = model.get_base_model().get_submodule(
        backbone.layers_prefix.removesuffix("layers") + "norm"
    )
    handle = norm.register_forward_hook(lambda _, __, output: caught.append(output))
    try:
        model(
            inputs_embeds=backbone.embed(batch),
            attention_mask=batch.attention_mask,
            logits_to_keep=1,
            use_cache=False,
        )
    finally:
        handle.remove()
    columns = torch.arange(batch.labels.shape[1], device=batch.labels.device)
    last = torch.where(batch.labels == IGNORE, columns, -1).max(1).values
    return caught[0][torch.arange(len(batch), device=last.device), last].float()
