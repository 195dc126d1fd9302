"""Describe prompts by hidden states of a model that all clients share."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedmosaic.data.example import Example
from fedmosaic.errors import DataError
from fedmosaic.models.backbone import Backbone

Features = Literal["both", "mean", "last"]
MOST_MEDIANS = 20.0
"""Largest magnitude of a feature, in medians of the magnitudes.

Language models have massive activations (arXiv 2402.17762): single values that are hundreds of
times the others, and nearly the same for every input. In SmolLM2 135M one is 99 % of the squared
norm of a mean. The rest, which tells prompts apart, would drown in the noise on prototypes.
"""


class PromptFeatures:
    """Compute features of prompts with a frozen model, each prompt once.

    With h_t the state of token t, of T tokens, after a share ``depth`` of the model's layers (after
    all of them: after the final norm, where there is one):

        mean = n(1/T Σ_t h_t),   last = n(h_T),   both = n([mean, last]),
        n(x) = c / ‖c‖,          c = clip(x, ±20 · median_i |x_i|)

    The prompt is everything before the last answer: system text, earlier turns, images and the
    question. Later layers are not computed. Each prompt is run by itself, so that its features do
    not depend on other prompts.

    All features have norm 1, which bounds the norm of what is published of them.

    Source: an extension, not in FedMosaic's paper.

    Args:
        backbone: The shared model.
        features: Which states.
        depth: Share of the layers, in (0, 1].

    Attributes:
        size: Number of features of a prompt: the model's width, or twice the width with ``both``.
        layer: Number of layers after which states are taken.
        normed: Whether the final norm follows.
    """

    def __init__(self, backbone: Backbone, features: Features = "both", depth: float = 0.5) -> None:
        self.backbone = backbone
        self.features = features
        self.size = backbone.hidden_size * (2 if features == "both" else 1)
        structure = backbone.structure
        self.layer = max(1, round(depth * len(structure.layers)))
        last = structure.layers[self.layer - 1]
        self._watched = structure.final_norm if depth == 1 and structure.final_norm else last
        self.normed = self._watched is structure.final_norm
        self._known: weakref.WeakKeyDictionary[Example, Tensor] = weakref.WeakKeyDictionary()

    def __call__(self, examples: Sequence[Example]) -> Tensor:
        """Return the features of the examples' prompts, float32 [n, size] on the CPU.

        Raises:
            DataError: an example has no prompt, or is longer than the model allows.
            ModelError: an example has images and the model takes text only.
        """
        found = [self._of(example) for example in examples]
        return torch.stack(found) if found else torch.zeros(0, self.size)

    def take(self, examples: Sequence[Example], found: Tensor) -> None:
        """Take features that were computed before, [n, size], as those of some examples."""
        self._known.update(zip(examples, found, strict=True))

    def _of(self, example: Example) -> Tensor:
        if example not in self._known:
            self._known[example] = self._compute(example)
        return self._known[example]

    @torch.no_grad()
    def _compute(self, example: Example) -> Tensor:
        if len(example.turns) == 1:
            raise DataError(
                f"example {example.id!r} is plain text without a prompt, which routing compares; "
                "leave routed views out of evaluation.views, or give it a question"
            )
        states = self._states(example)
        mean, last = states.mean(0), states[-1]
        chosen = {"both": (mean, last), "mean": (mean,), "last": (last,)}[self.features]
        unit = torch.cat([normalize(clip_massive(part), dim=0) for part in chosen])
        return (unit / math.sqrt(len(chosen))).cpu()

    def _states(self, example: Example) -> Tensor:
        """Return the states of a prompt's tokens, float32 [T, width]."""
        caught: list[Any] = []

        def stop(module: object, inputs: object, output: Any) -> None:
            caught.append(output)
            raise _Reached

        handle = self._watched.register_forward_hook(stop)
        try:
            batch = self.backbone.collate([self.backbone.encode(example, answer=False)])
            with suppress(_Reached):
                self.backbone.logits(self.backbone.model, batch)
        finally:
            handle.remove()
        states: Tensor = caught[0][0] if isinstance(caught[0], tuple) else caught[0]
        return states.flatten(0, -2).float()


def clip_massive(states: Tensor) -> Tensor:
    """Return states [f], with massive activations clipped (:data:`MOST_MEDIANS`)."""
    limit = MOST_MEDIANS * float(states.abs().median())
    return states.clamp(-limit, limit) if limit else states


class _Reached(Exception):
    """Leave the forward pass."""
