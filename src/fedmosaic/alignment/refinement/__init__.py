"""Refine A and B on pseudo-tasks, so that a P learned in one model works in the others.

The modules in the order of the computation:

1. :mod:`pseudo_tasks`: questions about public examples with random answer words.
2. :mod:`traces`: what each model does on them, recorded once.
3. :mod:`closed_form`: A and B of a group of models, or of one joining model.
4. :mod:`effects`: what an entry of P changes, to first order.
5. :mod:`strength`: the size of A and B at each site.
6. :mod:`labels` and :mod:`transplant`: how well a learned P works in another model.
7. :mod:`group`: all of this for a group of models.
"""

from fedmosaic.alignment.refinement.group import (
    ModelTraces,
    refine_group,
    refine_joining_model,
)
from fedmosaic.alignment.refinement.pseudo_tasks import PseudoTaskSet

__all__ = ["ModelTraces", "PseudoTaskSet", "refine_group", "refine_joining_model"]
