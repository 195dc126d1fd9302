"""Define what a signature model is, however it computes the gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fedmosaic.errors import ConfigError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.models.encoding import Encoded
from fedmosaic.relevance.last_layer import find_signature_layer
from fedmosaic.seeding import generator

Method = Literal["closed form", "autograd"]

# The most logits held in fp32 at a time (128 MB), whatever the length of the batch.
LIMIT = 1 << 25


class SignatureModel(ABC):
    """Compute signatures with a frozen model that all clients share.

    The signature (arXiv 2506.11024, section 4.1) is the gradient G of the batch's loss with respect
    to the weight W (d x d_ff) of the last layer's MLP down-projection. The loss is the mean
    cross-entropy over the batch's labelled tokens. With y = W a the output of that layer at every
    token,

        G = (dL/dy)^T a                             [d, d_ff]

    Only a share of the rows of G is computed (``keep``). Signatures are comparable only between
    equal models with the same ``keep`` and ``seed``.

    Args:
        backbone: The shared model. Disable any adapter that was injected into it.
        keep: Share of the d rows of G that a signature holds, in (0, 1].
        seed: Draws these rows.

    Attributes:
        method: How dL/dy is computed.
        layer: The layer whose weight's gradient this is.
        rows: [k] int64, the rows of G in a signature, ascending.
        size: k * d_ff, the length of a signature.

    Raises:
        ConfigError: ``keep`` is out of range.
        ModelError: the last layer has no plain linear layer to take the gradient of.
    """

    method: ClassVar[Method]

    def __init__(self, backbone: Backbone, keep: float = 0.4, seed: int = 0) -> None:
        if not 0 < keep <= 1:
            raise ConfigError(f"relevance.keep is {keep}; it must lie in (0, 1]")
        self.backbone = backbone
        self.layer = find_signature_layer(backbone)
        width = self.layer.out_features
        order = torch.randperm(width, generator=generator("signature rows", seed, width))
        self.rows = order[: max(1, round(keep * width))].sort().values.to(backbone.device)
        self.size = len(self.rows) * self.layer.in_features

    @abstractmethod
    def gradient(self, batch: Batch) -> Tensor:
        """Return the signature of a batch: rows of G, flat, [size] in fp32.

        Raises:
            DataError: the batch has no labelled token.
            ModelError: an adapter is active in the signature model.
        """


def random_batch(backbone: Backbone) -> Batch:
    """Return one sentence of nine random tokens, all labelled, without special tokens."""
    vocabulary = len(backbone.model.get_input_embeddings().weight)
    draw = generator("signature check", vocabulary)
    special = set(getattr(backbone.tokenizer, "added_tokens_decoder", ()))
    allowed = torch.tensor([token for token in range(vocabulary) if token not in special])
    ids = array("i", allowed[torch.randint(len(allowed), (9,), generator=draw)].tolist())
    return backbone.collate([Encoded(ids, ids)])
