"""Alignment: which token and layer of one model answers to which of another, and A and B that mean the same in both.

aligned = align([Backbone.load("miniature/qwen2-10x112")], pivot, public_examples, AlignmentSettings(rank=16))
load_shared(peft_model, aligned[0].tensors)
"""

from __future__ import annotations

from fedmosaic.alignment.align_models import align
from fedmosaic.alignment.deployment.publish import align_to_published, publish
from fedmosaic.alignment.store import Alignment
from fedmosaic.config import AlignmentSettings

REFINED = {"refine": {}, "layers": "even", "modules": ["o_proj"], "blocks": 8, "rank": 64}
"""Settings of functional refinement: output projections at every depth, where models of different families have most in common."""

__all__ = ["REFINED", "Alignment", "AlignmentSettings", "align", "align_to_published", "publish"]
