"""Publish prototypes of a client's training prompts, as seldom as possible."""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

from fedmosaic.algorithms.base import Client
from fedmosaic.relevance.privacy import PrivacyMechanism
from fedmosaic.relevance.prototypes import prototypes

SENT, SENT_OF = "sent prototypes", "sent prototypes of"
"""Names in a client's state: what it sent last, and a digest of what that was computed from."""


def published(client: Client, count: int, noise_std: float, *, new: bool) -> Tensor:
    """Return the prototypes that a client sends, float32 [k, f].

    They are the centres of k-means over the features f of all training prompts so far, |f| = 1
    (:class:`~fedmosaic.relevance.prompt_features.PromptFeatures`). All centres together, as one
    vector, are clipped to the norm sqrt(k), which they cannot exceed, and noise is added:

        sent = clip(centres, √k) + σ √k · N(0, 1)   in every coordinate

    Each time that new noise is added counts against the client's privacy. Prototypes of the same
    prompts are therefore sent with the same noise as before, bit for bit.

    Args:
        client: keeps in its state what it has sent.
        count: k, number of prototypes.
        noise_std: σ, ``routing.noise_std``.
        new: whether prompts that have arrived since then count. If not, the client sends what it
            sent last.

    Returns:
        zeros, as long as the client has no prompts or has not published any.
    """
    features, state = client.prompt_features(), client.state
    digest = _digest(features, count, noise_std)
    same = SENT_OF in state and torch.equal(state[SENT_OF], digest)
    if new and len(features) and not same:
        hide = PrivacyMechanism("gaussian", noise_std, math.sqrt(count))
        centres = prototypes(features, count, client.generator("prototypes"))
        sent = hide(centres, client.prototype_noise)
        client.state = state = {**state, SENT: sent, SENT_OF: digest}
    return state[SENT] if SENT in state else torch.zeros(count, features.shape[1])


def _digest(features: Tensor, count: int, noise_std: float) -> Tensor:
    """Return a digest of what prototypes are computed from, uint8 [32]."""
    found = hashlib.sha256(f"{count} {noise_std} {tuple(features.shape)}".encode())
    found.update(features.contiguous().numpy().tobytes())
    return torch.frombuffer(bytearray(found.digest()), dtype=torch.uint8)
