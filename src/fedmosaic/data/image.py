"""Hold one image and read its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image

from fedmosaic.data.encoded import decode, displayed_size, examine, read_file
from fedmosaic.data.pixels import Background
from fedmosaic.errors import DataError


def content_key(content: bytes) -> str:
    """Return a hash of bytes, 32 hexadecimal digits."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True)
class TableCell:
    """Name the place of a picture in a table.

    Attributes:
        table: Parquet file, or Arrow file of a folder of ``datasets``.
        column: name of the column.
        row: row in that file, from 0.
        picture: which picture of a cell that holds a list, from 0; None: the cell is one picture.
    """

    table: Path
    column: str
    row: int
    picture: int | None = None


_last_drawn: tuple[Any, np.ndarray | None] = (None, None)


@dataclass(frozen=True)
class StoredImage:
    """Hold an encoded picture that is not a file of its own: a cell of a table, a data URI.

    Attributes:
        name: where the picture is, for messages, e.g. ``"rows.parquet: row 3, column image"``.
        read: returns the encoded picture, e.g. the bytes of a PNG file. It is called whenever the
            picture is needed; it may raise :class:`DataError` or OSError.
        cell: where the picture is in a table; None outside of tables.
    """

    name: str
    read: Callable[[], bytes]
    cell: TableCell | None = None


@dataclass(frozen=True, eq=False)
class Image:
    """Hold one image as a file, an encoded picture, an array, or a function that draws it.

    Pixels that are read or drawn are not cached here, so that a long stream of images needs no
    more memory than a short one. Code that computes something from the pixels caches its result
    by :attr:`key`.

    Attributes:
        source: path of an image file; or an encoded picture; or pixels, uint8 [height, width, 3],
            RGB; or a function without arguments that returns such pixels.
        background: what is behind the transparent parts of a file or an encoded picture; default
            white.
    """

    source: Path | StoredImage | np.ndarray | Callable[[], np.ndarray]
    background: Background = "white"

    @cached_property
    def key(self) -> str:
        """Return a hash of the content, 32 hexadecimal digits; equal images have equal keys.

        The bytes of a file or an encoded picture are hashed, otherwise the pixels and their shape.
        A picture before black has another key than the same one before white.

        Raises:
            DataError: the file cannot be read.
        """
        if self.encoded:
            return self._before(content_key(self.read()))
        pixels = self._pixels()
        return content_key(pixels.tobytes() + str(pixels.shape).encode())

    def _before(self, key: str) -> str:
        """Return the key of an encoded picture of that key before the image's background."""
        return key if self.background == "white" else content_key((key + self.background).encode())

    def know(self, key: str, size: tuple[int, int]) -> None:
        """Take over the key of the encoded picture, and its size, from who has examined it.

        Args:
            key: :func:`content_key` of its bytes.
            size: its height and width, as :attr:`size` has them.
        """
        vars(self).update(key=self._before(key), size=size)

    @property
    def encoded(self) -> bool:
        """Return whether the source is a file or an encoded picture, which may be bad."""
        return isinstance(self.source, Path | StoredImage)

    @property
    def name(self) -> str:
        """Return what messages call the image, e.g. ``image file a/b.png``."""
        if isinstance(self.source, Path):
            return f"image file {self.source}"
        if isinstance(self.source, StoredImage):
            return f"image of {self.source.name}"
        return "image in memory"

    @cached_property
    def size(self) -> tuple[int, int]:
        """Return height and width as :meth:`load` has them; pixels of a file are seldom read.

        Raises:
            DataError: the file is missing or no image.
        """
        if not self.encoded:
            height, width = self._pixels().shape[:2]
            return height, width
        content = self.read()
        try:
            return displayed_size(content)
        except DataError as error:
            raise DataError(f"{self.name} {error}") from error

    def load(self) -> PIL.Image.Image:
        """Return the image in RGB, as people see it (see :mod:`fedmosaic.data.pixels`).

        Raises:
            DataError: the file is missing, cut short or damaged, or its pixels have no one reading.
        """
        if not self.encoded:
            return PIL.Image.fromarray(self._pixels())
        content = self.read()
        try:
            return decode(content, self.background)
        except DataError as error:
            raise DataError(f"{self.name} {error}") from error

    def fault(self) -> str:
        """Say what is wrong with a file or an encoded picture; empty if nothing is.

        It is decoded only where nothing cheaper shows that it is whole.
        """
        if not self.encoded:
            return ""
        try:
            found = examine(self.read()).fault
        except DataError as error:
            return str(error)
        return f"{self.name} {found}" if found else ""

    def read(self) -> bytes:
        """Return the bytes of a file or an encoded picture.

        Raises:
            DataError: they cannot be read.
        """
        try:
            if isinstance(self.source, StoredImage):
                return self.source.read()
            assert isinstance(self.source, Path)
            return read_file(self.source)
        except OSError as error:
            raise DataError(f"{self.name} cannot be read: {error.strerror or error}") from error

    def _pixels(self) -> np.ndarray:
        assert not isinstance(self.source, Path | StoredImage)
        if isinstance(self.source, np.ndarray):
            return self.source
        # A new image is hashed and then loaded: it is drawn once for both.
        global _last_drawn
        source, pixels = _last_drawn
        if source is not self.source or pixels is None:
            pixels = self.source()
            _last_drawn = self.source, pixels
        return pixels
