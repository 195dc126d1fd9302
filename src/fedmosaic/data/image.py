"""Hold one image and read its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL.Image

from fedmosaic.errors import DataError


@dataclass(frozen=True, eq=False)
class Image:
    """Hold one image as a file, an array, or a function that draws it.

    Pixels that are read or drawn are not cached here, so that a long stream of images needs no
    more memory than a short one. Code that computes something from the pixels caches its result
    by :attr:`key`.

    Attributes:
        source: path of an image file; or pixels, uint8 [height, width, 3], RGB; or a function
            without arguments that returns such pixels.
    """

    source: Path | np.ndarray | Callable[[], np.ndarray]

    @cached_property
    def key(self) -> str:
        """Return a hash of the content, 32 hexadecimal digits; equal images have equal keys.

        For a file the bytes of the file are hashed, otherwise the pixels and their shape.

        Raises:
            DataError: the file cannot be read.
        """
        if isinstance(self.source, Path):
            try:
                content = self.source.read_bytes()
            except OSError as error:
                raise DataError(
                    f"image file {self.source} cannot be read: {error.strerror}"
                ) from error
        else:
            pixels = self._pixels()
            content = pixels.tobytes() + str(pixels.shape).encode()
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width; of a file the pixels are not read.

        Raises:
            DataError: the file is missing or no image.
        """
        if not isinstance(self.source, Path):
            height, width = self._pixels().shape[:2]
            return height, width
        try:
            with PIL.Image.open(self.source) as picture:
                return picture.height, picture.width
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"image file {self.source} cannot be read: {error}") from error

    def load(self) -> PIL.Image.Image:
        """Return the image in RGB; transparency is dropped.

        Raises:
            DataError: the file is missing or corrupt.
        """
        if not isinstance(self.source, Path):
            return PIL.Image.fromarray(self._pixels())
        try:
            with PIL.Image.open(self.source) as picture:
                return _to_rgb(picture)
        except (OSError, SyntaxError, ValueError) as error:
            raise DataError(f"image file {self.source} cannot be read: {error}") from error

    def _pixels(self) -> np.ndarray:
        assert not isinstance(self.source, Path)
        return self.source if isinstance(self.source, np.ndarray) else self.source()


def _to_rgb(picture: PIL.Image.Image) -> PIL.Image.Image:
    """Convert an opened picture to RGB.

    A palette may give each of its colours an opacity, in a byte string. Pillow asks that such a
    picture become RGBA first, and warns otherwise; the RGB values are the same either way.
    """
    if picture.mode == "P" and isinstance(picture.info.get("transparency"), bytes):
        picture = picture.convert("RGBA")
    return picture.convert("RGB")
