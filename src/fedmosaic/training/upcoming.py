"""Draw the batches of coming steps early, so that their images go through the tower together."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from fedmosaic.data.example import Example
from fedmosaic.models.backbone import Backbone

AHEAD = 256
"""Most examples that are drawn before their steps."""


class UpcomingBatches:
    """Return the batches of a training one after another, drawn some steps ahead.

    A new image then shares its pass through a vision tower with those of the coming steps. Call the
    object for the next batch.

    Args:
        backbone: encodes the examples and computes their images.
        next_examples: returns the examples of the next batch, which may not depend on the training.
        steps: number of batches of the training.
    """

    def __init__(
        self, backbone: Backbone, next_examples: Callable[[], Sequence[Example]], steps: int
    ) -> None:
        self.backbone = backbone
        self.next_examples = next_examples
        self.left = steps
        self._drawn: deque[Sequence[Example]] = deque()

    def __call__(self) -> Sequence[Example]:
        """Return the examples of the next batch."""
        if not self._drawn and self.backbone.images is not None:
            self._draw()
        return self._drawn.popleft() if self._drawn else self.next_examples()

    def _draw(self) -> None:
        examples = 0
        while self.left and examples < AHEAD:
            self._drawn.append(self.next_examples())
            self.left -= 1
            examples += len(self._drawn[-1])
        images = self.backbone.images
        assert images is not None
        every = {id(example): example for batch in self._drawn for example in batch}
        images.compute_ahead(
            [unit for example in every.values() for unit in self.backbone.encode(example).units]
        )
