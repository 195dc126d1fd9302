"""Open encoded pictures, and find those that are cut short or damaged.

Pillow decodes the formats. Only formats that it decodes by itself are opened: PostScript, for one,
would start another program. Errors here say what is wrong; the caller puts the picture's name in
front.
"""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NamedTuple

import PIL.Image
from PIL.ImageFile import ImageFile

from fedmosaic.data.pixels import Background, cannot_be_unclear, orientation, to_rgb
from fedmosaic.errors import DataError

# TGA is last, because its files have no mark of their own.
FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "JPEG2000", "AVIF", "ICO"),
    *("PCX", "SGI", "SUN", "QOI", "DDS", "PSD", "ICNS", "TGA"),
)
_JPEG = ("JPEG", "MPO")
# A PNG may say behind its pixels that it is to be turned, in chunks of these types.
_PNG_NOTES = re.compile(rb"eXIf|iTXt|tEXt|zTXt")
# A marker of JPEG; inside the compressed data, FF 00 and the restart markers are none.
_JPEG_MARKER = re.compile(rb"\xff+[\x02-\xcf\xd8-\xfe]")
_JPEG_START, _JPEG_SCAN, _JPEG_END = 0xD8, 0xDA, 0xD9
_J2K_DATA, _J2K_END = b"\xff\x93", b"\xff\xd9"
_OTHER_KINDS = (
    (rb"\s*(<!doctype html|<html|<head|<body)", "is a web page; download the picture itself"),
    (rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*|<!doctype svg[^>]*>\s*)*<svg",
     "is an SVG drawing; save it as PNG"),
    (rb"version https://git-lfs", "is a pointer of Git LFS; run 'git lfs pull'"),
    (rb"....ftyp(heic|heix|mif1|msf1|hevc)", "is a HEIC picture; save it as JPEG or PNG"),
    (rb"%!PS", "is PostScript; save it as PNG"),
    (rb"%PDF", "is a PDF; save its page as PNG"),
)  # fmt: skip


class Examined(NamedTuple):
    """Hold what was found of an encoded picture.

    Attributes:
        fault: what is wrong with it, for a message that begins with its name; empty: nothing.
        size: height and width as :func:`decode` has them; (0, 0) if it cannot be opened.
    """

    fault: str
    size: tuple[int, int]


class _Quiet:
    """Hide warnings while pictures are read, in several threads at the same time.

    They are about notes beside the pixels; damage raises errors. The filters are the process's, so
    the first thread to begin sets them, and the last to end restores them.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0

    def __enter__(self) -> None:
        with self.lock:
            if not self.inside:
                self.caught = warnings.catch_warnings()
                self.caught.__enter__()
                warnings.simplefilter("ignore")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if not self.inside:
                self.caught.__exit__(None, None, None)


_QUIET = _Quiet()


def read_file(path: Path) -> bytes:
    """Return the bytes of an image file.

    Raises:
        DataError: the path names no file.
        OSError: the file cannot be read.
    """
    if path.is_dir():
        raise DataError(f"image file {path} is a folder")
    if path.exists() and not path.is_file():
        raise DataError(f"image file {path} is a device or pipe, not a file")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"image file {path} does not exist") from error


def decode(content: bytes, background: Background) -> PIL.Image.Image:
    """Return the picture in RGB, as people see it.

    Raises:
        DataError: it is no picture, cut short or damaged, or its pixels have no one reading.
    """
    with _opened(content) as picture:
        _require_end(content, picture.format)
        return to_rgb(picture, background)


def displayed_size(content: bytes) -> tuple[int, int]:
    """Return height and width of the picture as :func:`decode` has it, most often undecoded.

    Raises:
        DataError: it is no picture.
    """
    with _opened(content) as picture:
        return _displayed_size(picture, content)


def examine(content: bytes) -> Examined:
    """Say what is wrong with a picture, and how large it is.

    A PNG is whole if its checksums hold, a JPEG if its segments lead to its end marker (that of a
    thumbnail inside does not count). Everything else is decoded.
    """
    size = (0, 0)
    try:
        with _opened(content) as picture:
            size = _displayed_size(picture, content)
            if picture.format in _JPEG:
                _require_end(content, picture.format)
                return Examined("", size)
            if picture.format == "PNG" and cannot_be_unclear(picture):
                picture.verify()
                return Examined("", size)
        decode(content, "white")
    except DataError as error:
        return Examined(str(error), size)
    return Examined("", size)


def _displayed_size(picture: ImageFile, content: bytes) -> tuple[int, int]:
    swapped = False
    if picture.format != "PNG":
        swapped = picture.format != "TIFF" and orientation(picture) > 4  # Pillow turns TIFF itself
    elif _PNG_NOTES.search(content):
        # Reading the notes decodes the picture, which must not happen before it is verified.
        with PIL.Image.open(io.BytesIO(content), formats=("PNG",)) as noted:
            swapped = orientation(noted) > 4
    return (picture.width, picture.height) if swapped else (picture.height, picture.width)


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats that this installation of Pillow opens."""
    PIL.Image.init()
    return tuple(name for name in FORMATS if name in PIL.Image.OPEN)


@contextmanager
def _opened(content: bytes) -> Iterator[ImageFile]:
    """Open a picture, and turn what is raised while it is read into a DataError."""
    if not content:
        raise DataError("is empty (0 bytes)")
    with _QUIET:
        try:
            with PIL.Image.open(io.BytesIO(content), formats=_formats()) as picture:
                yield picture
        except DataError:
            raise
        except PIL.UnidentifiedImageError as error:
            raise DataError(_other_kind(content)) from error
        except PIL.Image.DecompressionBombError as error:
            raise DataError(f"is too large: {error}") from error
        except Exception as error:  # the readers of formats raise anything on damaged files
            raise DataError(f"is corrupt or cut short: {error}") from error


def _other_kind(content: bytes) -> str:
    for pattern, reason in _OTHER_KINDS:
        if re.match(pattern, content[:1024], re.IGNORECASE | re.DOTALL):
            return reason
    return "is corrupt, cut short or no image of a known format (PNG, JPEG, WebP, GIF, TIFF, …)"


def _reaches_jpeg_end(content: bytes) -> bool:
    """Return whether the segments of a JPEG lead over a scan to its end marker."""
    position, scanned = 0, False
    while found := _JPEG_MARKER.search(content, position):
        marker, position = found[0][-1], found.end()
        if marker == _JPEG_END:
            return scanned
        if marker == _JPEG_START:
            continue
        if position + 2 > len(content):
            return False
        scanned = scanned or marker == _JPEG_SCAN
        position += struct.unpack_from(">H", content, position)[0]
    return False


def _require_end(content: bytes, picture_format: str | None) -> None:
    """Refuse pictures of formats of which Pillow may decode a part without an error."""
    if picture_format in _JPEG:
        whole = _reaches_jpeg_end(content)
    elif picture_format == "JPEG2000":
        whole = content.find(_J2K_END, content.find(_J2K_DATA)) >= 0
    else:
        return
    if not whole:
        raise DataError("is corrupt or cut short: its end marker is missing")
