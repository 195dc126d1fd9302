"""Find the last layer and the head of a signature model, and record what enters them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE


@dataclass(frozen=True)
class ForwardPass:
    """Hold the inputs of the last two layers at the T positions that predict a label.

    Attributes:
        hidden: [T, d] input of the final norm.
        activation: [T, d_ff] input of the last down-projection.
        targets: [T] labels that these positions predict.
    """

    hidden: Tensor
    activation: Tensor
    targets: Tensor


def record_forward(backbone: Backbone, down_proj: nn.Linear, batch: Batch) -> ForwardPass:
    """Run the model once, without its head, and record the inputs of its last two layers.

    Raises:
        DataError: the batch has no labelled token.
        ModelError: an adapter is active in the model.
    """
    _refuse_active_adapters(backbone)
    mask = batch.labels[:, 1:] != IGNORE
    targets = batch.labels[:, 1:][mask]
    if targets.numel() == 0:
        raise DataError(
            "signature: the batch has no labelled token, but every example needs an answer"
        )
    recorded: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            recorded[name] = inputs[0][:, :-1][mask]

        return hook

    with ExitStack() as hooks:
        for name, module in (("activation", down_proj), ("hidden", backbone.final_norm)):
            hooks.callback(module.register_forward_pre_hook(recorder(name)).remove)
        backbone.logits(backbone.model, batch)
    hidden = recorded["hidden"]
    return ForwardPass(hidden, recorded["activation"], targets.to(hidden.device))


def _refuse_active_adapters(backbone: Backbone) -> None:
    for module in backbone.model.modules():
        if getattr(module, "disable_adapters", True) is False and getattr(
            module, "active_adapters", None
        ):
            raise ModelError(
                f"signature: {backbone.name} has an active adapter; compute signatures inside "
                "disable_adapter() or with a model of its own, so that they stay comparable "
                "between clients"
            )


def find_head(backbone: Backbone) -> tuple[Tensor, Tensor | None]:
    """Return the weight [V, d] and the bias [V] (or None) of the output head.

    Raises:
        ModelError: the head is no plain linear layer.
    """
    head = _unwrapped(backbone.lm_head)
    weight: Tensor | None = getattr(head, "weight", None)
    width = backbone.hidden_size
    if weight is None or weight.shape[-1] != width or not weight.is_floating_point():
        raise ModelError(
            f"signature: {backbone.name} has no plain output head ({type(head).__name__}); choose "
            "another signature model (relevance.model)"
        )
    bias: Tensor | None = getattr(head, "bias", None)
    return weight.detach(), None if bias is None else bias.detach()


def find_down_projection(backbone: Backbone) -> nn.Linear:
    """Return the MLP down-projection of the last layer.

    Raises:
        ModelError: the last layer has none that is linear.
    """
    layer = backbone.language_layers[-1]
    found = getattr(getattr(layer, "mlp", None), "down_proj", None)
    module = None if found is None else _unwrapped(found)
    if not isinstance(module, nn.Linear):
        raise ModelError(
            f"signature: the last layer of {backbone.name} ({type(layer).__name__}) has no linear "
            "mlp.down_proj; choose another signature model (relevance.model)"
        )
    return module


def find_logit_scale(backbone: Backbone) -> float:
    """Return the factor between the head's output and the logits.

    Cohere multiplies by a number, Granite divides by one; it is 1 in other models.

    Raises:
        ModelError: the model caps its logits.
    """
    config = backbone.text_config
    if getattr(config, "final_logit_softcapping", None):
        raise ModelError(
            f"signature: {backbone.name} caps its logits, which the closed form does not cover; "
            "choose another signature model (relevance.model)"
        )
    if getattr(config, "logits_scaling", None):
        return 1.0 / float(config.logits_scaling)
    return float(getattr(config, "logit_scale", None) or 1.0)


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the layer itself, without an adapter around it."""
    base = getattr(module, "base_layer", module)
    return base if isinstance(base, nn.Module) else module
