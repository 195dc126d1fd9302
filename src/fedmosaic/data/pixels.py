"""Show a picture to a model as people see it: turned upright, in 0-255, before a background.

- A camera's note that a picture is to be turned (EXIF) is followed.
- Grey values of 12 or 16 bits become ``v · 255 / (2ᵇ - 1)``. Nothing is clipped or stretched.
- Grey values as floats are read over 0-1 if they reach no further, over 0-255 if they clearly do,
  and those of 32-bit integers over 0-65535. Where that is not clear, the picture is refused.
- Transparent parts show the background. Their own colours are never seen.
- Of several frames or pages, the first is shown.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import PIL.Image
from PIL import ImageCms
from PIL.ExifTags import Base
from PIL.Image import Transpose
from PIL.ImageFile import ImageFile

from fedmosaic.errors import DataError

Background = Literal["white", "black"]

_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_WIDE_GREY = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")
# Largest value of the grey pixels that Pillow unpacks to 0-255, while a PNG's transparent grey
# value stays as it was written.
_SMALL_GREY = {"L;2": 3, "L;4": 15}
_16_BIT_COLOURS = "RGB;16B"
_SIGNED = 2
# Floats that end between are neither surely of 0-1 nor surely of 0-255; so are 32-bit integers
# that end at or below 255 neither surely of 8 nor surely of 16 bits.
_UNCLEAR_FLOATS = (1.0, 16.0)


def to_rgb(picture: ImageFile, background: Background) -> PIL.Image.Image:
    """Decode an opened picture into RGB.

    Raises:
        DataError: its pixels have no one reading.
        Exception: the picture is damaged; Pillow raises errors of many types.
    """
    raw_mode = _raw_mode(picture)
    # The first frame of a GIF may leave a part of the picture open.
    frame = picture.tile[0].extents if picture.format == "GIF" and picture.tile else None
    picture.load()
    if picture.mode == "L" and _tag(picture, Base.SampleFormat) == (_SIGNED,):
        raise DataError("has signed 8-bit integers as pixels; save it with unsigned ones")
    turn = _TURNS.get(orientation(picture))
    if picture.mode in _WIDE_GREY:
        seen = _wide_grey(picture, background)
    elif picture.has_transparency_data:
        seen = _over(_with_opacity(picture, raw_mode), background)
    elif picture.mode == "LAB":
        seen = _from_lab(picture)
    else:
        seen = picture.convert("RGB")
    if frame and tuple(frame) != (0, 0, *seen.size):
        canvas = PIL.Image.new("RGB", seen.size, background)
        canvas.paste(seen.crop(frame), frame[:2])
        seen = canvas
    return seen if turn is None else seen.transpose(turn)


def orientation(picture: PIL.Image.Image) -> int:
    """Return how the picture is to be turned, as EXIF numbers it: 1 (not at all) to 8.

    A note that cannot be read is passed over, as viewers do.
    """
    try:
        return int(picture.getexif().get(Base.Orientation, 1))
    except Exception:
        return 1


def cannot_be_unclear(picture: ImageFile) -> bool:
    """Return whether :func:`to_rgb` refuses no pixels of an opened, undamaged picture."""
    colours = _raw_mode(picture) == _16_BIT_COLOURS and "transparency" in picture.info
    return picture.mode not in ("I", "F") and not colours


def _raw_mode(picture: ImageFile) -> str:
    """Return how the pixels are laid out in the file; known of PNG, before it is decoded."""
    args = picture.tile[0].args if picture.format == "PNG" and picture.tile else ""
    return args if isinstance(args, str) else ""


def _wide_grey(picture: ImageFile, background: Background) -> PIL.Image.Image:
    """Return grey pixels of more than 8 bits in RGB."""
    values = np.asarray(picture)
    if picture.mode == "F":
        grey = _from_floats(values)
    elif picture.mode == "I" and picture.format not in ("PNG", "PPM"):
        grey = _from_integers(values, picture)
    else:
        grey = values * (255 / (2 ** _bits(picture) - 1))
    if _tag(picture, Base.PhotometricInterpretation) == 0:  # 0 is white, which Pillow passes over
        grey = 255 - grey
    seen = PIL.Image.fromarray(np.rint(grey).astype(np.uint8)).convert("RGB")
    clear = picture.info.get("transparency")
    if isinstance(clear, int):
        opaque = PIL.Image.fromarray(((values != clear) * 255).astype(np.uint8))
        seen.putalpha(opaque)
        return _over(seen, background)
    return seen


def _from_floats(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise DataError("has pixels that are no numbers (NaN or infinite); save it with 8 bits")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 255 or _UNCLEAR_FLOATS[0] < high < _UNCLEAR_FLOATS[1]:
        raise DataError(
            f"has floats from {low:g} to {high:g} as pixels; only 0-1 and 0-255 are read:"
            " save it with 8 or 16 bits"
        )
    return values * 255 if high <= 1 else values


def _from_integers(values: np.ndarray, picture: ImageFile) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    signed_16 = _bits(picture) == 16
    if signed_16 or low < 0 or high > 65535 or 0 < high <= 255:
        kind = "signed 16-bit" if signed_16 else "32-bit"
        raise DataError(
            f"has {kind} integers from {low} to {high} as pixels, whose black and white are not"
            " known: save it with 8 or unsigned 16 bits"
        )
    return values * (255 / 65535)


def _bits(picture: ImageFile) -> int:
    """Return the bits of a grey value: what a TIFF says, otherwise 16."""
    found = _tag(picture, Base.BitsPerSample)
    return int(found[0]) if isinstance(found, tuple) else 16


def _tag(picture: ImageFile, tag: int) -> object:
    """Return a tag of a TIFF; None if it is none or has none."""
    tags = getattr(picture, "tag_v2", None)
    return None if tags is None else tags.get(tag)


def _with_opacity(picture: ImageFile, raw_mode: str) -> PIL.Image.Image:
    """Return the picture in RGBA."""
    clear = picture.info.get("transparency")
    if raw_mode == _16_BIT_COLOURS:
        raise DataError(
            "has 16-bit colours of which one is transparent; save it with an alpha channel"
        )
    if raw_mode in _SMALL_GREY and isinstance(clear, int):
        picture.info["transparency"] = clear * 255 // _SMALL_GREY[raw_mode]
    return picture.convert("RGBA")


def _over(picture: PIL.Image.Image, background: Background) -> PIL.Image.Image:
    canvas = PIL.Image.new("RGBA", picture.size, background)
    canvas.alpha_composite(picture)
    return canvas.convert("RGB")


def _from_lab(picture: PIL.Image.Image) -> PIL.Image.Image:
    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    seen = ImageCms.profileToProfile(picture, *profiles, outputMode="RGB")
    assert seen is not None  # None only where the picture is changed in place
    return seen
