"""Run FedDPA: an averaged and a personal adapter, mixed anew for every input."""

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
from fedmosaic.models.encoding import IGNORE

# Names the tensor in a client's state, and the random draw; published runs depend on it.
REFERENCES = "references"


class FedDPA(Dual):
    """Train an averaged and a personal adapter, and weigh them anew for every input.

    In a round the client trains, each with half of the steps,

        local   h = W x + a Δ_L(x) + (1 − a) Ĝ(x)          with the received adapter Ĝ frozen
        global  h = W x + Δ_G(x)                           from Ĝ on; averaged as in FedAvg

    and answers an input x with (instance-wise dynamic weighting)

        h = W x + α(x) Δ_L(x) + (1 − α(x)) Ĝ(x),        α(x) = λ · 1/S Σ_s cos(e(x), e(x_s))

    e is the last layer's hidden state of the prompt's last token under the local adapter; x_1 … x_S
    are training samples, drawn anew each round from those that the client saw in it. A client that
    has not trained yet uses Ĝ alone.

    - Up: Δ_G.
    - Down: the average Ĝ of the client's architecture.

    Source: Yang et al. 2024 (NeurIPS; arXiv 2403.19211), section 4; a = λ = ½, S = 5 and the order:
    the authors' code.

    Differences from the paper:

    - This is FedDPA-T, which trains both adapters in every round; FedDPA-F, which trains the local
      adapters after the last round, is left out.
    - Clients of different architectures share nothing.
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
        """Hold the settings of FedDPA."""

        lam: float = Field(default=0.5, ge=0, le=1)
        """λ, the largest weight of the local adapter."""
        instances: int = Field(default=5, ge=1)
        """S, the number of training samples that inputs are compared with."""
        training_weight: float = Field(default=0.5, gt=0, le=1)
        """a, the weight of the local adapter while it trains."""

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
        chosen = [seen[index] for index in order[: self.options.instances]]
        client.state[REFERENCES] = self._representations(client, chosen).cpu()
        return personal.add_work(shared)

    def _representations(self, client: Client, examples: Sequence[Example]) -> Tensor:
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
    """Weigh ``local`` against ``received`` for each sequence of the batch last prepared.

    Args:
        model: the PEFT model with both adapters.
        backbone: of the model.
        references: representations of training samples, [S, hidden].
        lam: λ.
    """

    def __init__(self, model: Any, backbone: Backbone, references: Tensor, lam: float) -> None:
        self.model, self.backbone, self.references, self.lam = model, backbone, references, lam

    def prepare(self, batch: Batch) -> None:
        """Weigh the adapters for these prompts, which may be followed by answers."""
        activate(self.model, {"local": 1.0})
        inputs = represent(self.model, self.backbone, batch)
        references = self.references.to(inputs)
        cosines = functional.cosine_similarity(inputs[:, None], references[None], dim=-1)
        alpha = self.lam * cosines.mean(1)
        activate(self.model, {"local": alpha, "received": 1 - alpha})

    def __call__(self, **inputs: Any) -> Any:
        return self.model(**inputs)

    def generate(self, **inputs: Any) -> Any:
        """Generate answers to the prompts last prepared."""
        return self.model.generate(**inputs)


@torch.no_grad()
def represent(model: Any, backbone: Backbone, batch: Batch) -> Tensor:
    """Return the last hidden state at the last token of each prompt, [n, hidden] in float32.

    The hidden state is the decoder's output, after the final norm where there is one. The last
    token of a prompt is the last column without a label, because answers end the sequences and are
    labelled.
    """
    caught: list[Tensor] = []
    decoder = model.get_base_model().get_decoder()
    handle = decoder.register_forward_hook(lambda _, __, output: caught.append(output[0]))
    width = batch.labels.shape[1]
    try:
        backbone.logits(model, batch, batch.columns(width - 1, width))
    finally:
        handle.remove()
    columns = torch.arange(width, device=batch.labels.device)
    last = torch.where(batch.labels == IGNORE, columns, -1).max(1).values
    return caught[0][torch.arange(len(batch), device=last.device), last].float()
