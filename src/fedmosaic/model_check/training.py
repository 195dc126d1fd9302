"""Take one training step with the adapters of FedMosaic, and load their export in plain PEFT."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from peft import PeftModel
from torch import Tensor

from fedmosaic.adapters import adapter_parameters
from fedmosaic.adapters.export import export_to_folder
from fedmosaic.algorithms.common.colora import build_colora
from fedmosaic.algorithms.common.lora import parameter_groups, quiet_peft
from fedmosaic.config import AdapterSettings, TrainSettings
from fedmosaic.data.example import Example
from fedmosaic.errors import ModelError
from fedmosaic.model_check.encoding import tolerance
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.training.loop import fit
from fedmosaic.training.optimiser import Optimiser

RATE = 1e-2  # large, so that one step changes the logits by more than rounding does
PAIR = ("local", "global")


class TrainedStep(NamedTuple):
    """Hold a model after one training step.

    Attributes:
        model: the PEFT model with FedMosaic's pair of adapters.
        loss: the loss before the step.
        memory: bytes of the adapters, of the gradients and of the optimiser's two moments.
    """

    model: Any
    loss: float
    memory: int


def take_step(
    backbone: Backbone, examples: Sequence[Example], settings: AdapterSettings
) -> TrainedStep:
    """Build the pair of adapters and train it for one step on all the items.

    Raises:
        FedMosaicError: the adapters do not fit, the loss is not finite, or the step trains nothing.
    """
    model = build_colora(backbone, examples, None, {}, settings, seed=0)
    groups = parameter_groups(model, "local")
    trained = [parameter for group in groups for parameter in group.parameters.values()]
    before = [parameter.detach().clone() for parameter in trained]
    optimiser = Optimiser(groups, TrainSettings(lr=RATE, lr_shared=RATE))
    report = fit(model, backbone, optimiser, lambda: examples, 1, dropout_seed=0)
    if all(torch.equal(old, new) for old, new in zip(before, trained, strict=True)):
        raise ModelError(
            f"a training step on {backbone.name} changes no adapter: its adapted modules take no "
            "part in the forward pass. Choose others with adapter.target_modules, or use another "
            "model"
        )
    held = [value for name in PAIR for value in adapter_parameters(model, name).values()]
    memory = sum(map(_bytes, held)) + 3 * sum(map(_bytes, trained))
    return TrainedStep(model, report.loss, memory)


def load_export(backbone: Backbone, model: Any, examples: Sequence[Example]) -> float:
    """Export the adapters, load them in plain PEFT, and compare the logits.

    Half precision and quantised weights round, and a router may then choose another expert. There
    the difference may be half of what the adapter itself changes.

    Returns:
        The largest difference of a logit, relative to the largest logit.

    Raises:
        FedMosaicError: they cannot be exported, or the loaded model gives other logits.
    """
    batch = backbone.collate([backbone.encode(example) for example in examples])
    adapted = _logits(backbone, model, batch)
    with TemporaryDirectory(prefix="fedmosaic-") as work:
        folder = export_to_folder(model, Path(work) / "lora", PAIR, base_model=backbone.name)
        with quiet_peft(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            loaded = PeftModel.from_pretrained(backbone.fork(), str(folder)).eval()
    exported = _logits(backbone, loaded, batch)
    largest = adapted.abs().max()
    difference = float((adapted - exported).abs().max() / largest)
    limit = tolerance(backbone)
    if limit > 1e-3:
        bare = _logits(backbone, backbone.model, batch)
        limit = max(limit, 0.5 * float((adapted - bare).abs().max() / largest))
    if not difference <= limit:
        raise ModelError(
            f"the exported adapter of {backbone.name} gives other logits in plain PEFT (by "
            f"{difference:.1%} of the largest): do not serve its export. Leave modules out with "
            "adapter.target_modules, or use another model"
        )
    return difference


def _logits(backbone: Backbone, model: Any, batch: Batch) -> Tensor:
    """Return the logits of the last column of a batch, [n, vocabulary], in float32."""
    with torch.no_grad():
        return backbone.logits(model, batch)[:, -1].float()


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
