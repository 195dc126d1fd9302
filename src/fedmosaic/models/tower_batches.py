"""Run a vision tower on several images at once, with features that do not depend on the others."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from fedmosaic.seeding import generator

Tower = Callable[[Tensor], Tensor]
"""Function from the pixels of n images [n, …] to their features [n, …]."""

FEW = 2
"""Most images that go through a tower one by one sooner than in a full batch of eight."""

MANY = 64
"""Images that go through a small tower together: in eight batches they take 1.7 times as long."""

SMALL = 1 << 14
"""Most values of an image of which so many go together; larger ones keep a processor busy."""


class TowerBatches:
    """Run a tower on batches of one size, filled up with copies of their last image.

    Kernels are chosen by the size of a batch, so a size that changed would change the last bits of
    features, and every number of a run would depend on the order in which images first appear. With
    one size they could still depend on an image's place. This is tried once for each shape of
    images, on random ones: where any bit differs, each image goes through the tower alone.

    With ``exact``, features have the bits of images that go alone. It is tried on random images
    whether those of a batch do. They do on a CPU whose matrix products treat each row alike. One or
    two images that are left over go alone, which is quicker than a full batch. Many small images go
    in larger batches, of the same bits.

    Args:
        name: Name of the model, for the warning.
        tower: The tower.
        size: Images of a batch; 1: each goes alone.
        exact: Whether features must be those of images that go alone.
    """

    def __init__(self, name: str, tower: Tower, size: int, exact: bool = False) -> None:
        self.name = name
        self.tower = tower
        self.size = size
        self.exact = exact
        self._tried: set[tuple[int, ...]] = set()
        self._many: dict[tuple[int, ...], bool] = {}

    @property
    def most(self) -> int:
        """Return the number of images that are worth collecting for one call."""
        return max(self.size, MANY) if self.exact and self.size > 1 else self.size

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the features of n images."""
        needed = self.size > 1 and (not self.exact or len(pixels) > FEW)
        if needed and tuple(pixels.shape[1:]) not in self._tried:
            self._try(pixels)
        whole = len(pixels) // MANY * MANY if self._takes_many(pixels) else 0
        parts = [self.tower(part) for part in pixels[:whole].split(MANY) if len(part)]
        for part in pixels[whole:].split(self.size) if len(pixels) > whole else ():
            if self.exact and len(part) <= FEW:
                parts += [self.tower(image) for image in part.split(1)]
                continue
            missing = self.size - len(part)
            copies = part[-1:].expand(missing, *part.shape[1:])
            filled = torch.cat([part, copies]) if missing else part
            parts.append(self.tower(filled)[: len(part)])
        return torch.cat(parts)

    def _takes_many(self, pixels: Tensor) -> bool:
        """Return whether larger batches have the bits of those of the usual size."""
        if not self.exact or not 1 < self.size < MANY <= len(pixels) or pixels[0].numel() > SMALL:
            return False
        shape = tuple(pixels.shape[1:])
        if shape not in self._many:
            images = torch.randn(MANY, *shape, generator=generator("many images", *shape))
            images = images.to(pixels)
            usual = torch.cat([self.tower(part) for part in images.split(self.size)])
            self._many[shape] = torch.equal(self.tower(images), usual)
        return self._many[shape]

    def _try(self, pixels: Tensor) -> None:
        """Run random images at every place of a batch, and give batches up where bits differ."""
        shape = tuple(pixels.shape[1:])
        draw = generator("tower batches", *shape)
        images = torch.randn(self.size, *shape, generator=draw).to(pixels)
        expected = self.tower(images)
        self._tried.add(shape)
        if self.exact:
            single = torch.cat([self.tower(image) for image in images.split(1)])
            self.size = self.size if torch.equal(single, expected) else 1
            return
        for shift in range(1, self.size):
            if not torch.equal(self.tower(images.roll(shift, 0)), expected.roll(shift, 0)):
                warnings.warn(
                    f"model {self.name!r}: on this device the features of an image depend on its "
                    "place in a batch, so each image goes through the vision tower alone "
                    "(models.tower_batch: 1)",
                    stacklevel=2,
                )
                self.size = 1
                break
