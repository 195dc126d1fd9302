"""RELA's gradient signature of a batch, in closed form from one forward pass (arXiv 2506.11024, section 4.1).

The signature is the gradient of the batch's loss with respect to the last layer's MLP down-projection weight W
(d x d_ff) of a small frozen model that every client has. With T label-predicting positions, z = W_lm n the logits,
n = norm(h), a the input of the down-projection:

    delta = (softmax(z) - onehot(y)) / T        [T, V]
    g     = delta W_lm                          [T, d]    gradient after the final norm
    dL/dh = J_norm(h)^T g                       [T, d]    exact, with the off-diagonal term (see norms.py)
    G     = (dL/dh)^T a                         [d, d_ff]

Only the kept rows of G are ever computed. The norm's off-diagonal term needs <g, n> over all d, but
<g, n> = <delta W_lm, n> = <delta, z>, which the logits give, so kept rows of g are enough.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fedmosaic.errors import ConfigError, DataError, ModelError
from fedmosaic.models.backbone import Backbone, Batch
from fedmosaic.relevance.norms import recognise
from fedmosaic.seeding import generator

IGNORE = -100
# Logits are held for this many numbers at a time (128 MB in fp32), whatever the length of the batch ...
LIMIT = 1 << 25
# ... and on a CPU, when some rows are kept, for this many positions: narrow products run best in such blocks.
BLOCK = 128
# Kept columns of the head are filled up with zeros to a multiple of this, the width of a vector register or tile.
TILE = 16


@dataclass(frozen=True)
class ForwardPass:
    """What one forward pass leaves for the closed form, at the T label-predicting positions only.

    Attributes:
        hidden: [T, d] input of the final norm.
        activation: [T, d_ff] input of the last down-projection.
        targets: [T] the labels that are predicted there.
    """

    hidden: Tensor
    activation: Tensor
    targets: Tensor


class SignatureModel:
    """Computes signatures with a frozen model that all clients share.

    Args:
        backbone: the shared model. It runs bare: disable any adapter that was injected into it.
        keep: share of the d rows of G that a signature holds, in (0, 1].
        seed: draws the kept rows. Signatures are comparable only between equal models, ``keep`` and ``seed``.

    Attributes:
        rows: [k] int64, the kept rows in rising order.
        size: k * d_ff, the length of a signature.

    Raises:
        ConfigError: ``keep`` is out of range.
        ModelError: the model's end is not one that the closed form covers (this is checked against autograd once).
    """

    def __init__(self, backbone: Backbone, keep: float = 0.4, seed: int = 0) -> None:
        if not 0 < keep <= 1:
            raise ConfigError(f"signature: keep must lie in (0, 1], got {keep}")
        self.backbone = backbone
        self.down_proj = _down_projection(backbone)
        head = _bare(backbone.lm_head)
        weight = getattr(head, "weight", None)
        width = backbone.hidden_size
        if weight is None or weight.shape[-1] != width or not weight.is_floating_point():
            raise ModelError(
                f"signature: {backbone.name} has no plain output head ({type(head).__name__})"
            )
        self.logit_scale = _logit_scale(backbone)
        self.norm = recognise(backbone.final_norm, width)

        count = max(1, round(keep * width))
        order = torch.randperm(width, generator=generator("signature rows", seed, width))
        self.rows = order[:count].sort().values.to(weight.device)
        self.size = count * self.down_proj.in_features
        self._head_rows = weight.detach()  # [V, k]; nothing is copied when all rows are kept
        self._block = max(1, LIMIT // len(weight))
        if count < width:
            self._head_rows = nn.functional.pad(self._head_rows[:, self.rows], (0, -count % TILE))
            self._block = min(self._block, BLOCK) if weight.device.type == "cpu" else self._block
        # With n = scale * x + bias and z = W_lm n + c these take the constant parts out of <delta, z>; the other vector
        # sums up scale * g, which LayerNorm needs.
        bias = getattr(head, "bias", None)
        offsets = [] if bias is None else [bias.detach().float()]
        if self.norm.bias is not None:
            offsets.append((weight.detach() @ self.norm.bias.to(weight.dtype)).float())
        self._offset = sum(offsets) if offsets else None
        self._scale_sum = (
            (weight.detach() @ self.norm.scale.to(weight.dtype)).float()
            if self.norm.centred
            else None
        )
        self._verify()

    @torch.no_grad()
    def gradient(self, batch: Batch) -> Tensor:
        """The batch's signature: the kept rows of G, flat, [size] in fp32.

        Raises:
            DataError: the batch has no labelled token.
            ModelError: an adapter is active in the signature model.
        """
        return self.closed_form(self.forward(batch))

    @torch.no_grad()
    def closed_form(self, seen: ForwardPass) -> Tensor:
        """The signature from what the forward pass left, [size] in fp32."""
        hidden_gradient = self.hidden_gradient(seen.hidden, seen.targets)
        return (hidden_gradient.T @ seen.activation.float()).flatten()

    @torch.no_grad()
    def forward(self, batch: Batch) -> ForwardPass:
        """Runs the model once, without its head, and catches what the closed form needs."""
        self._refuse_active_adapters()
        mask = batch.labels[:, 1:] != IGNORE
        targets = batch.labels[:, 1:][mask]
        if targets.numel() == 0:
            raise DataError(
                "signature: the batch has no labelled token; every example needs an answer"
            )
        caught: dict[str, Tensor] = {}

        def catch(name: str) -> Any:
            def hook(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
                caught[name] = inputs[0][:, :-1][mask]

            return hook

        with ExitStack() as hooks:
            for name, module in (
                ("activation", self.down_proj),
                ("hidden", self.backbone.final_norm),
            ):
                hooks.callback(module.register_forward_pre_hook(catch(name)).remove)
            self.backbone.model(
                inputs_embeds=self.backbone.embed(batch),
                attention_mask=batch.attention_mask,
                logits_to_keep=1,
                use_cache=False,
            )
        return ForwardPass(
            caught["hidden"], caught["activation"], targets.to(caught["hidden"].device)
        )

    def logits(self, hidden: Tensor) -> Tensor:
        """Raw output of the head at positions [T, d] (input of the final norm): [T, V] in fp32."""
        raw: Tensor = self.backbone.lm_head(self.backbone.final_norm(hidden))
        return raw.float()

    def hidden_gradient(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Kept rows of dL/dh at positions [T, d] that predict ``targets`` [T]: [T, k] in fp32."""
        blocks = [
            self._head_gradient(self.logits(block), labels)
            for block, labels in zip(
                hidden.split(self._block), targets.split(self._block), strict=True
            )
        ]
        grad_rows = torch.cat([block[0] for block in blocks])[:, : len(self.rows)]
        inner = torch.cat([block[1] for block in blocks])
        totals = [block[2] for block in blocks if block[2] is not None]
        result = self.norm.pull_back(
            hidden, grad_rows, self.rows, inner, torch.cat(totals) if totals else None
        )
        return result.mul_(self.logit_scale / len(targets))

    def _head_gradient(
        self, logits: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """From the head's raw output [T, V]: kept rows of T * g, <T * g, n>, and the sum of scale * T * g (LayerNorm)."""
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

    def _refuse_active_adapters(self) -> None:
        for module in self.backbone.model.modules():
            if getattr(module, "disable_adapters", True) is False and getattr(
                module, "active_adapters", None
            ):
                raise ModelError(
                    f"signature: {self.backbone.name} has an active adapter; compute signatures inside "
                    "disable_adapter() or with a model of its own, so that they stay comparable between clients"
                )

    def _verify(self) -> None:
        """Compares the closed form with autograd on one random sentence: an unknown end must not pass silently.

        This is what catches a norm or a factor between the down-projection and the residual stream (Gemma 2, Granite).
        """
        model = self.backbone.model
        vocabulary = self._head_rows.shape[0]
        ids = torch.randint(vocabulary, (1, 9), generator=generator("signature check", vocabulary))
        image_token = self.backbone.image_token_id
        if image_token is not None:
            ids[ids == image_token] = (image_token + 1) % vocabulary
        ids = ids.to(self._head_rows.device)
        batch = Batch(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids, features=None)
        with torch.no_grad():
            seen = self.forward(batch)
            ours = self.hidden_gradient(seen.hidden, seen.targets)

        # Autograd through the output of the down-projection: a zero is added there, no parameter is touched.
        zero: list[Tensor] = []

        def add_zero(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> Tensor:
            zero.append(torch.zeros_like(output, requires_grad=True))
            return output + zero[0]

        handle = self.down_proj.register_forward_hook(add_zero)
        try:
            with torch.enable_grad():
                logits = model(
                    inputs_embeds=self.backbone.embed(batch), attention_mask=batch.attention_mask
                ).logits
                loss = nn.functional.cross_entropy(
                    logits[0, :-1].float(), ids[0, 1:], reduction="mean"
                )
                (theirs,) = torch.autograd.grad(loss, zero[0])
        finally:
            handle.remove()
        expected = theirs[0, :-1].float()[:, self.rows]
        error = ((ours - expected).norm() / expected.norm().clamp_min(1e-30)).item()
        if not error < (1e-3 if logits.dtype == torch.float32 else 0.1):
            raise ModelError(
                f"signature: the closed form does not hold for {self.backbone.name} ({type(model).__name__}; relative "
                f"error {error:.1e}), whose last layer or head differs from Llama's; choose another signature model"
            )


def ema(previous: Tensor | None, new: Tensor, alpha: float = 0.5) -> Tensor:
    """The signature over time: ``(1 - alpha) * previous + alpha * new``, or ``new`` at the start (previous None)."""
    if not 0 < alpha <= 1:
        raise ConfigError(f"signature: alpha must lie in (0, 1], got {alpha}")
    return new.clone() if previous is None else torch.lerp(previous, new, alpha)


def _row_products(a: Tensor, b: Tensor) -> Tensor:
    """<a_t, b_t> of the rows of two [T, V] matrices, [T].

    Two rows at a time as small matrix products: twice the arithmetic, but three times the speed of vecdot on a CPU.
    """
    even = len(a) // 2 * 2
    left, right = (x[:even].view(even // 2, 2, x.shape[1]) for x in (a, b))
    pairs = torch.bmm(left, right.mT).diagonal(dim1=1, dim2=2).flatten()
    return pairs if even == len(a) else torch.cat([pairs, torch.linalg.vecdot(a[even:], b[even:])])


def _bare(module: nn.Module) -> nn.Module:
    """The layer itself, where an adapter has been wrapped around it."""
    base = getattr(module, "base_layer", module)
    return base if isinstance(base, nn.Module) else module


def _down_projection(backbone: Backbone) -> nn.Linear:
    layer = backbone.language_layers[-1]
    found = getattr(getattr(layer, "mlp", None), "down_proj", None)
    module = None if found is None else _bare(found)
    if not isinstance(module, nn.Linear):
        raise ModelError(
            f"signature: the last layer of {backbone.name} ({type(layer).__name__}) has no linear mlp.down_proj; "
            f"choose another signature model"
        )
    return module


def _logit_scale(backbone: Backbone) -> float:
    """The factor between the head's output and the logits: Cohere multiplies by one, Granite divides by one."""
    config = backbone.text_config
    if getattr(config, "final_logit_softcapping", None):
        raise ModelError(
            f"signature: {backbone.name} caps its logits, which is not covered; choose another signature model"
        )
    if getattr(config, "logits_scaling", None):
        return 1.0 / float(config.logits_scaling)
    return float(getattr(config, "logit_scale", None) or 1.0)
