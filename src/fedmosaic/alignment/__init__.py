"""Align the frozen A and B of different models, so that P and Q have one meaning in all of them.

    placement = Placement(r=16, num_blocks=4, modules=("q_proj", "o_proj"))
    models = [Backbone.load("miniature/qwen2-10x112")]
    (aligned,) = align(models, pivot, public_examples, AlignmentSettings(), placement)
    load_shared(peft_model, aligned.tensors)

From data to result:

1. :mod:`correspondence`: which tokens (:mod:`positions`), words (:mod:`vocabulary`) and layers
   (:mod:`cka`, :mod:`layer_cka`, :mod:`layers`) of two models correspond.
2. :mod:`hooks`: record the base model at its adapter sites.
3. :mod:`closed_form`: A and B of each model for itself. :mod:`probes` define the gradients that
   :mod:`observe` records; :mod:`pivot` chooses the pivot's pair; :mod:`moments` accumulates the
   second moments; :mod:`solve` has the formulas; :mod:`fit` brings them together.
4. :mod:`refinement`: A and B of a group of models together, from pseudo-tasks.
5. :mod:`identity`, :mod:`store`, :mod:`group_store`: the files of the results.
6. :mod:`align_models`: the entry, :func:`align`.
7. :mod:`deployment`: the same across machines.

:mod:`rotation` removes an alignment again, as a control.
"""

from __future__ import annotations

from typing import Any

from fedmosaic.adapters.placement import Placement
from fedmosaic.alignment.align_models import align
from fedmosaic.alignment.deployment.publish import align_to_published, publish
from fedmosaic.alignment.store import Alignment
from fedmosaic.config import AlignmentSettings

REFINED: dict[str, Any] = {
    "refine": {},
    "r": 64,
    "num_blocks": 8,
    "modules": ["o_proj"],
    "block_rule": "even",
}
"""Settings and placement of functional refinement: output projections at every depth.

That is where models of different families have the most in common."""

__all__ = [
    "REFINED",
    "Alignment",
    "AlignmentSettings",
    "Placement",
    "align",
    "align_to_published",
    "publish",
]
