"""Find the layer that a signature is taken from and the head, and record what enters them."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fedmosaic.errors import DataError, ModelError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import IGNORE
from fedmosaic.models.host import to_device
from fedmosaic.models.linear import base_layer, widths
from fedmosaic.models.roles import find_roles

WAY_OUT = "; choose another signature model (relevance.model)"


class NoClosedFormError(ModelError):
    """Say why a model's signature has no closed form."""


@dataclass(frozen=True)
class SignatureLayer:
    """Hold the linear layer whose weight's gradient is the signature.

    Attributes:
        path: its path in the whole model, e.g. ``model.layers.7.mlp.down_proj``.
        module: the layer, without an adapter around it.
        role: the MLP's down-projection, or the output projection of attention (or of what stands
            in its place) where the last layer has experts or no plain down-projection.
    """

    path: str
    module: nn.Module
    role: Literal["down-projection", "output projection"]

    @property
    def in_features(self) -> int:
        """Return the width of the layer's input."""
        return (widths(self.module) or (0, 0))[0]

    @property
    def out_features(self) -> int:
        """Return the width of the layer's output."""
        return (widths(self.module) or (0, 0))[1]


def find_signature_layer(backbone: Backbone) -> SignatureLayer:
    """Return the last layer's MLP down-projection, or else its attention's output projection.

    A layer with experts has a down-projection for each of them, which receives only the tokens that
    are sent to it. The output projection of its attention receives all tokens.

    Raises:
        ModelError: the last layer has neither as a linear module.
    """
    layers = backbone.language_layers
    prefix = f"{backbone.layers_prefix}.{len(layers) - 1}"
    (found,) = find_roles([layers[-1]], backbone.hidden_size)
    linear = [entry for entry in found if entry.excluded not in ("router", "expert")]
    if not any(name.rpartition(".")[2] == "experts" for name, _ in layers[-1].named_modules()):
        for entry in linear:
            if entry.role == "down_proj":
                path = f"{prefix}.{entry.path}"
                return SignatureLayer(path, base_layer(entry.module), "down-projection")
    mixers = [entry for entry in linear if entry.place in ("attention", "mixer")]
    outputs = [entry for entry in mixers if entry.role in ("o_proj", "out_proj")]
    for entry in [*outputs, *reversed(linear)]:
        layer = SignatureLayer(
            f"{prefix}.{entry.path}", base_layer(entry.module), "output projection"
        )
        if layer.out_features == backbone.hidden_size:
            return layer
    raise ModelError(
        f"signature: the last layer of {backbone.name} ({type(layers[-1]).__name__}) has no MLP "
        f"down-projection and no output projection that is a linear module{WAY_OUT}"
    )


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


def label_positions(batch: Batch) -> tuple[Tensor, Tensor]:
    """Return where the next token has a label, and these labels, on the batch's device.

    Returns:
        Rows and columns, int64 [2, positions]; labels, int64 [positions].

    Raises:
        DataError: the batch has no labelled token.
    """
    labels = batch.host_labels[:, 1:]
    places = (labels != IGNORE).nonzero().T
    if places.numel() == 0:
        raise DataError(
            "signature: the batch has no labelled token, but every example needs an answer"
        )
    device = batch.labels.device
    return to_device(places, device), to_device(labels[tuple(places)], device)


def record_forward(
    backbone: Backbone, down_proj: nn.Module, batch: Batch, device: torch.device
) -> ForwardPass:
    """Run the model once, without its head, and record the inputs of its last two layers.

    Args:
        backbone: the model.
        down_proj: its last down-projection.
        batch: the examples.
        device: where the recorded tensors go.

    Raises:
        DataError: the batch has no labelled token.
        ModelError: an adapter is active in the model.
        NoClosedFormError: the last layer or the final norm runs on some tokens only.
    """
    refuse_active_adapters(backbone)
    places, targets = label_positions(batch)
    width = batch.labels.shape[1]
    recorded: dict[str, Tensor] = {}

    def recorder(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if inputs[0].shape[:-1].numel() != batch.labels.numel():
                raise NoClosedFormError("its last layers do not run on all tokens at once")
            value = inputs[0].reshape(*batch.labels.shape, -1)  # OPT flattens n and T
            recorded[name] = value[tuple(places.to(value.device))].to(device)

        return hook

    with ExitStack() as hooks:
        for name, module in (("activation", down_proj), ("hidden", backbone.final_norm)):
            hooks.callback(module.register_forward_pre_hook(recorder(name)).remove)
        # An index, because with a number Gemma 4 skips all other tokens in its last layers.
        backbone.logits(backbone.model, batch, batch.columns(width - 1, width))
    return ForwardPass(recorded["hidden"], recorded["activation"], targets.to(device))


def refuse_active_adapters(backbone: Backbone) -> None:
    """Raise ModelError if an adapter is active in the model."""
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
        NoClosedFormError: the head is no plain linear layer.
    """
    head = base_layer(backbone.lm_head)
    weight: Tensor | None = getattr(head, "weight", None)
    if weight is None or weight.shape[-1] != backbone.hidden_size or not weight.is_floating_point():
        raise NoClosedFormError(f"its output head ({type(head).__name__}) is no plain linear layer")
    bias: Tensor | None = getattr(head, "bias", None)
    return weight.detach(), None if bias is None else bias.detach()


def find_logit_scale(backbone: Backbone) -> float:
    """Return the factor between the head's output and the logits.

    Cohere multiplies by a number, Granite divides by one; it is 1 in other models.

    Raises:
        NoClosedFormError: the model caps its logits.
    """
    config = backbone.text_config
    if any(getattr(config, name, None) for name in ("final_logit_softcapping", "logits_soft_cap")):
        raise NoClosedFormError("it caps its logits")
    if getattr(config, "logits_scaling", None):
        return 1.0 / float(config.logits_scaling)
    return float(getattr(config, "logit_scale", None) or 1.0)
