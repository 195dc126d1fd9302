"""Learn a P and Q that do their task in a model of another architecture, and move them there.

A P that is trained by gradient steps serves the model that it was trained in. To first order

    f(example; P, Q) ≈ f(example; 0) + ⟨J, (P, Q)⟩

so a P that is learned from J alone, at P = Q = 0 of the bare base model, uses nothing but what
aligned models have in common. It is sent besides the adapter that is trained, which is better at
home.

On the giver::

    frame = CoLoraFrame.of(model)                              # A, B and sites of a PEFT model
    tensors = learn_transferable(backbone, frame, examples)    # {"block.0.o_proj.P": [r, r], …}

On the receiver, a model of any architecture that is aligned with the giver's: ``tensors`` are all
there is in the adapter (other layers have no change), and options are chosen by what the adapter
changes (:mod:`fedmosaic.evaluation.difference`)::

    write_state(model, "received", tensors, partial=True)
    scores = by_difference(questions.scores(model), questions.scores(backbone.model))

Learn one P for each task. One P for several tasks is worse at each of them. The change is small, so
that the first order holds: tenths of a logit. Where logits are in 16 bits, multiply P and Q by 4 or
more before they are used.

The modules: :mod:`frame`, where a model carries Co-LoRA; :mod:`effects`, J; :mod:`ridge`, P and Q
from J; :mod:`margins`, the same at a fraction of the cost; :mod:`translate`, a correction of P and
Q for one pair of models.

Ours; in no paper. ``benchmarks/accuracy/transplant_ladder.py`` measures each part.
"""

from fedmosaic.alignment.transfer.effects import AnswerEffects, record_effects
from fedmosaic.alignment.transfer.frame import CoLoraFrame
from fedmosaic.alignment.transfer.margins import from_margins, record_margins
from fedmosaic.alignment.transfer.ridge import PENALTY, kernel_ridge, learn_transferable
from fedmosaic.alignment.transfer.translate import translate, translators

__all__ = [
    "PENALTY",
    "AnswerEffects",
    "CoLoraFrame",
    "from_margins",
    "kernel_ridge",
    "learn_transferable",
    "record_effects",
    "record_margins",
    "translate",
    "translators",
]
