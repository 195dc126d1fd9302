"""Hold what a check found of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fedmosaic.adapters.coverage import Coverage
from fedmosaic.relevance.signature import SignatureKind


@dataclass(frozen=True)
class CheckedItem:
    """Hold one item as a model sees it.

    Attributes:
        id: the item's id.
        ids: its token ids.
        labels: the same ids where they are learned, -100 elsewhere.
        image_tokens: number of ids that stand for images.
    """

    id: str
    ids: Sequence[int]
    labels: Sequence[int]
    image_tokens: int

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON holds it."""
        return {
            "id": self.id,
            "ids": list(self.ids),
            "labels": list(self.labels),
            "image_tokens": self.image_tokens,
        }


@dataclass(frozen=True)
class ModelFacts:
    """Hold what a model is, beside what the check finds.

    Attributes:
        architecture: its parts by their types, e.g. ``llava: llama, clip_vision_model``.
        parameters: number of its parameters.
        memory: bytes of its weights by dtype or quantisation.
        layers: number of its decoder layers.
    """

    architecture: str
    parameters: int
    memory: dict[str, int]
    layers: int


@dataclass
class CheckedModel:
    """Hold what a check found of one model; None for what it could not find out.

    Attributes:
        name: the model's name.
        family: type of the model as its config has it, e.g. ``qwen2_vl``.
        ids_equal: whether all items have the ids that the model's own processor or tokenizer gives.
        loss_difference: largest difference between the loss of an item in training and in plain
            Transformers.
        image_tokens: number of tokens of a picture of 448 x 336 pixels, or of the first picture of
            the data; 0 for a model that takes text only.
        coverage: what carries adapters, and what does not and why.
        shared_sites: names of the Co-LoRA sites that all models of the check have, e.g.
            ``block.0.q_proj``; empty: they have none in common.
        signature: whether and how the model gives signatures.
        step: whether a training step ran and its loss is finite.
        export: whether the adapter, exported after this step, loads in plain PEFT and gives the
            same logits there.
        problems: what is wrong, each with the way out; empty: nothing.
        items: the items of the data; None: the check had no data.
        facts: parameters, memory and parts.
        unshared: roles at block ends that carry ordinary LoRA, because not every model has them.
        adapter_memory: bytes of a client's adapters, their gradients and the optimiser's moments.
        step_loss: loss of the training step.
        export_difference: largest difference of a logit in plain PEFT, relative to the largest
            logit.
        notes: what is worth knowing and not wrong.
    """

    name: str
    family: str | None = None
    ids_equal: bool | None = None
    loss_difference: float | None = None
    image_tokens: int | None = None
    coverage: Coverage | None = None
    shared_sites: list[str] | None = None
    signature: SignatureKind | None = None
    step: bool = False
    export: bool = False
    problems: list[str] = field(default_factory=list)
    items: list[CheckedItem] | None = None
    facts: ModelFacts | None = None
    unshared: Sequence[str] = ()
    adapter_memory: int | None = None
    step_loss: float | None = None
    export_difference: float | None = None
    notes: list[str] = field(default_factory=list)

    def add_problem(self, problem: str) -> None:
        """Add a problem that is not listed yet."""
        if problem not in self.problems:
            self.problems.append(problem)

    def add_note(self, note: str) -> None:
        """Add a note that is not listed yet."""
        if note not in self.notes:
            self.notes.append(note)

    def to_json(self) -> dict[str, Any]:
        """Return the content as JSON holds it."""
        adapted = None
        if self.coverage is not None:
            adapted = {"layers": self.coverage.adapted_layers, "share": self.coverage.share}
        content: dict[str, Any] = {
            "family": self.family,
            "ids_equal": self.ids_equal,
            "loss_difference": self.loss_difference,
            "image_tokens": self.image_tokens,
            "adapted": adapted,
            "shared_sites": self.shared_sites,
            "signature": self.signature.method if self.signature else None,
            "step": self.step,
            "export": self.export,
            "problems": self.problems,
        }
        if self.items is not None:
            content["items"] = [item.to_json() for item in self.items]
        return content
