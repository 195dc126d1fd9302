"""Choose how a model computes RELA's gradient signature, and average signatures over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fedmosaic.errors import ConfigError, ModelError
from fedmosaic.models.backbone import Backbone
from fedmosaic.relevance.autograd import AutogradSignature
from fedmosaic.relevance.closed_form import ClosedFormSignature
from fedmosaic.relevance.last_layer import WAY_OUT, NoClosedFormError
from fedmosaic.relevance.signature_model import Method, SignatureModel


def signature_model(backbone: Backbone, keep: float = 0.4, seed: int = 0) -> SignatureModel:
    """Return the model that computes signatures: in closed form where it holds, else by autograd.

    Args:
        backbone: The shared model. Disable any adapter that was injected into it.
        keep: Share of the gradient's rows that a signature holds, in (0, 1].
        seed: Draws these rows.

    Raises:
        ConfigError: ``keep`` is out of range.
        ModelError: the model can give no signature, or an adapter is active in it.
    """
    try:
        return ClosedFormSignature(backbone, keep, seed)
    except NoClosedFormError:
        return AutogradSignature(backbone, keep, seed)


@dataclass(frozen=True)
class SignatureKind:
    """Say whether and how a model gives signatures.

    Attributes:
        method: ``closed form`` or ``autograd``; ``no`` for a model that gives none.
        layer: path of the layer whose weight's gradient is the signature; empty with ``no``.
        reason: why there is no closed form, or no signature; empty with ``closed form``.
    """

    method: Method | Literal["no"]
    layer: str
    reason: str


def signature_kind(backbone: Backbone) -> SignatureKind:
    """Find out whether and how a model gives signatures. Nothing is raised."""
    try:
        return SignatureKind("closed form", ClosedFormSignature(backbone).layer.path, "")
    except NoClosedFormError as error:
        reason = str(error)
    except ModelError as error:
        return SignatureKind("no", "", _reason(error))
    try:
        return SignatureKind("autograd", AutogradSignature(backbone).layer.path, reason)
    except ModelError as error:
        return SignatureKind("no", "", _reason(error))


def _reason(error: ModelError) -> str:
    """Return the message of an error without the way out, to be said of a model in a list."""
    return str(error).removeprefix("signature: ").removesuffix(WAY_OUT)


def ema(previous: Tensor | None, new: Tensor, alpha: float = 0.5) -> Tensor:
    """Average signatures over time: ``(1 - alpha) * previous + alpha * new``.

    Without a previous signature (None) the result is a copy of ``new``.
    """
    if not 0 < alpha <= 1:
        raise ConfigError(f"relevance.ema is {alpha}; alpha must lie in (0, 1]")
    return new.clone() if previous is None else torch.lerp(previous, new, alpha)
