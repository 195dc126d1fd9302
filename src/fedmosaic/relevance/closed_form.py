"""Compute RELA's gradient signature of a batch in closed form from one forward pass.

Where the output of the last layer's down-projection goes into the final norm with nothing but the
residual sum in between, the gradient needs no backward pass. With T label-predicting positions,
z = W_lm n the logits, n = norm(h), and a the input of the down-projection:

    delta = (softmax(z) - onehot(y)) / T        [T, V]
    g     = delta W_lm                          [T, d]    gradient after the final norm
    dL/dh = J_norm(h)^T g                       [T, d]    exact, all terms (norms.py)
    G     = (dL/dh)^T a                         [d, d_ff]

Only a share of the rows of G is computed (``keep``). The norm's off-diagonal term needs <g, n> over
all d, but <g, n> = <delta W_lm, n> = <delta, z>, which the logits give, so the same share of the
rows of g is enough.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.relevance.autograd import gradient_by_autograd
from fedmosaic.relevance.last_layer import (
    ForwardPass,
    NoClosedFormError,
    find_head,
    find_logit_scale,
    record_forward,
)
from fedmosaic.relevance.norms import recognise
from fedmosaic.relevance.signature_model import LIMIT, Method, SignatureModel, random_batch

# The most positions at a time on a CPU when some rows are left out; narrow products run best so.
BLOCK = 128
# Columns of the head are padded with zeros to a multiple of this, the width of a vector register.
TILE = 16


class ClosedFormSignature(SignatureModel):
    """Compute signatures from one forward pass, without a backward pass.

    Args:
        backbone: The shared model. Disable any adapter that was injected into it.
        keep: Share of the d rows of G that a signature holds, in (0, 1].
        seed: Draws these rows.

    Raises:
        ConfigError: ``keep`` is out of range.
        NoClosedFormError: the closed form does not cover the model's last layers, or disagrees with
            autograd, which is checked once.
        ModelError: the last layer has no plain linear layer to take the gradient of.
    """

    method: ClassVar[Method] = "closed form"

    def __init__(self, backbone: Backbone, keep: float = 0.4, seed: int = 0) -> None:
        super().__init__(backbone, keep, seed)
        if self.layer.role != "down-projection":
            raise NoClosedFormError(
                f"its signature is taken from {self.layer.path}, not from an MLP"
            )
        if backbone.structure.final_norm is None:
            raise NoClosedFormError("it has no final norm")
        weight, bias = find_head(backbone)
        width = backbone.hidden_size
        self.logit_scale = find_logit_scale(backbone)
        # A model spread over several cards may have its head on another one than its embeddings.
        self.rows = self.rows.to(weight.device)
        self.norm = recognise(backbone.final_norm, width).to(weight.device)
        self._head_rows = weight  # [V, k]; nothing is copied when all rows are used
        self._block = max(1, LIMIT // len(weight))
        count = len(self.rows)
        if count < width:
            self._head_rows = nn.functional.pad(self._head_rows[:, self.rows], (0, -count % TILE))
            self._block = min(self._block, BLOCK) if weight.device.type == "cpu" else self._block
        # With n = scale * x + bias and z = W_lm n + c, the offset takes the constant parts out of
        # <delta, z>. The other vector sums up scale * g, which LayerNorm needs.
        offsets = [] if bias is None else [bias.float()]
        if self.norm.bias is not None:
            offsets.append((weight @ self.norm.bias.to(weight.dtype)).float())
        self._offset = sum(offsets) if offsets else None
        self._scale_sum = (
            (weight @ self.norm.scale.to(weight.dtype)).float() if self.norm.centred else None
        )
        self._verify()

    @torch.no_grad()
    def gradient(self, batch: Batch) -> Tensor:
        """Return the signature of a batch: rows of G, flat, [size] in fp32.

        Raises:
            DataError: the batch has no labelled token.
            ModelError: an adapter is active in the signature model.
        """
        return self.closed_form(self.forward(batch))

    @torch.no_grad()
    def closed_form(self, recorded: ForwardPass) -> Tensor:
        """Return the signature from a recorded forward pass, [size] in fp32."""
        hidden_gradient = self.hidden_gradient(recorded.hidden, recorded.targets)
        return (hidden_gradient.T @ recorded.activation.float()).flatten()

    @torch.no_grad()
    def forward(self, batch: Batch) -> ForwardPass:
        """Run the model once and record the inputs of its last layers (:func:`record_forward`)."""
        return record_forward(self.backbone, self.layer.module, batch, self.rows.device)

    def logits(self, hidden: Tensor) -> Tensor:
        """Return the raw output of the head for inputs [T, d] of the final norm: [T, V] fp32."""
        raw: Tensor = self.backbone.lm_head(self.backbone.final_norm(hidden))
        return raw.float()

    def hidden_gradient(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return rows of dL/dh at positions [T, d] that predict ``targets`` [T]: [T, k] fp32."""
        blocks = [
            self._head_gradient(self.logits(block), labels)
            for block, labels in zip(
                hidden.split(self._block), targets.split(self._block), strict=True
            )
        ]
        grad_rows = torch.cat([block[0] for block in blocks])[:, : len(self.rows)]
        inner = torch.cat([block[1] for block in blocks])
        totals = [block[2] for block in blocks if block[2] is not None]
        result = self.norm.backward(
            hidden, grad_rows, self.rows, inner, torch.cat(totals) if totals else None
        )
        return result.mul_(self.logit_scale / len(targets))

    def _head_gradient(
        self, logits: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Differentiate the loss at the head's raw output [T, V].

        Returns:
            Rows of T * g, <T * g, n>, and for LayerNorm the sum of scale * T * g.
        """
        delta = torch.softmax(
            logits if self.logit_scale == 1 else logits * self.logit_scale, dim=-1
        )
        inner = _row_products(delta, logits)
        at = targets.unsqueeze(-1)
        inner -= logits.gather(-1, at).squeeze(-1)
        delta.scatter_add_(-1, at, delta.new_full((), -1.0).expand(at.shape))
        if self._offset is not None:
            inner -= delta @ self._offset
        total = None if self._scale_sum is None else delta @ self._scale_sum
        return (delta.to(self._head_rows.dtype) @ self._head_rows).float(), inner, total

    def _verify(self) -> None:
        """Compare with autograd on random tokens, and refuse a model that differs.

        This finds a norm or a factor between the down-projection and the residual stream (Gemma 2,
        Granite).
        """
        batch = random_batch(self.backbone)
        expected = gradient_by_autograd(self.backbone, self.layer, self.rows, batch).flatten()
        difference = (self.gradient(batch) - expected).norm()
        error = (difference / expected.norm().clamp_min(1e-30)).item()
        if not error < (2e-5 if torch.finfo(self.backbone.dtype).bits >= 32 else 0.1):
            raise NoClosedFormError(
                f"what follows {self.layer.path} differs from Llama's (relative error {error:.1e})"
            )


def _row_products(a: Tensor, b: Tensor) -> Tensor:
    """Return the products <a_t, b_t> of the rows of two [T, V] matrices, [T].

    Small matrix products of two rows each take twice the arithmetic of vecdot, but run three times
    as fast on a CPU.
    """
    even = len(a) // 2 * 2
    left, right = (x[:even].view(even // 2, 2, x.shape[1]) for x in (a, b))
    pairs = torch.bmm(left, right.mT).diagonal(dim1=1, dim2=2).flatten()
    return pairs if even == len(a) else torch.cat([pairs, torch.linalg.vecdot(a[even:], b[even:])])
