"""Identify a model by its weights, tokenizer and shape, whatever file it came from."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from fedmosaic.models.backbone import Backbone

WHOLE = 1 << 18
SAMPLES = 1 << 12
_PROBE = "The 3 quick foxes — naïve, 日本 — jump:\n  over it."
_SHAPE = (
    *("model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim"),
    *("num_attention_heads", "num_key_value_heads", "hidden_act", "rms_norm_eps"),
    *("sliding_window", "vocab_size"),
)


def fingerprint(backbone: Backbone) -> str:
    """Return 32 hex digits that identify a model.

    They depend on the weights, the fields of the config that shape the network, the chat template
    and the tokenizer. Weights of up to 2^18 values enter whole. Larger ones enter by about 4,096
    evenly spaced values each (the stride is odd, so that they fall in all columns), which takes
    milliseconds for a model of billions of parameters. Weights enter as float32, so a bfloat16
    checkpoint has one fingerprint whether loaded as bfloat16 or as float32. A change in a large
    matrix that misses every sampled value is not seen; training never changes so few values.
    """
    digest = hashlib.blake2b(digest_size=16)
    shape = {name: getattr(backbone.text_config, name, None) for name in _SHAPE}
    tokenizer = backbone.tokenizer
    probe = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    about = [
        shape,
        len(tokenizer),
        tokenizer.eos_token,
        tokenizer.chat_template,
        list(probe),
        backbone.image_tokens,
    ]
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, value in sorted(backbone.model.named_parameters()):
        flat = value.detach().reshape(-1)
        if flat.numel() > WHOLE:
            flat = flat[:: (flat.numel() // SAMPLES) | 1]
        digest.update(f"{name} {list(value.shape)}".encode())
        digest.update(flat.to("cpu", torch.float32).contiguous().numpy().tobytes())
    return digest.hexdigest()
