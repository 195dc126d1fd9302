"""Generate public examples from a seed, for users who have no public data.

``synthetic`` shows one or two pictures of coloured shapes on a shaded background, and asks about
colour, shape, number, position and likeness. An image processor resizes the pictures to what its
vision tower takes. ``synthetic/text`` needs no pictures: it has short stories with questions, sums,
lists and plain sentences. Neither is related to any task. They serve to produce activations and
gradients.
"""

from fedmosaic.data.synthetic.pictures import synthetic_pictures
from fedmosaic.data.synthetic.texts import synthetic_texts

__all__ = ["synthetic_pictures", "synthetic_texts"]
