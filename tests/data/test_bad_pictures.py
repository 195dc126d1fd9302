"""Test that pictures which are cut short, damaged or none at all are found before training."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fedmosaic.data import Example, Image, Turn, check_images
from fedmosaic.data.encoded import FORMATS
from fedmosaic.data.image import StoredImage
from fedmosaic.errors import DataError

PICTURES = Path(__file__).parents[1] / "cases" / "pictures"
CUT = [
    *("cut.bmp", "cut-late.bmp", "cut.ppm", "cut.tif", "cut-early.tif", "cut-lzw.tif", "cut.gif"),
    *("cut-late.gif", "camera.jpg", "cut.jpg", "cut.png", "cut.webp"),
]


def noise(mode: str = "RGB", side: int = 60) -> PIL.Image.Image:
    drawn = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return PIL.Image.fromarray(drawn).convert(mode)


def encode(form: str, picture: PIL.Image.Image | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (picture or noise()).save(buffer, form, **options)
    return buffer.getvalue()


def front_tiff(compress: Any, compression: int, tiled: bool) -> bytes:
    """Write a TIFF whose directory stands before its pixels, as web servers like it."""
    side, tile = 64, 32
    drawn = np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)
    if tiled:
        parts = [drawn[y : y + tile, x : x + tile] for y in (0, tile) for x in (0, tile)]
        shape, at, lengths = [(322, tile), (323, tile)], 324, 325
    else:
        parts = [drawn[y : y + 16] for y in range(0, side, 16)]
        shape, at, lengths = [(278, 16)], 273, 279
    packed = [compress(part.tobytes()) for part in parts]
    tags = [(256, side), (257, side), (258, 8), (259, compression), (262, 1), (277, 1), *shape]
    directory = 8 + 2 + 12 * (len(tags) + 2) + 4
    data = directory + 8 * len(packed)
    places = [data + sum(map(len, packed[:k])) for k in range(len(packed))]
    entries = [(tag, 1, value) for tag, value in tags]
    entries += [(at, len(packed), directory), (lengths, len(packed), directory + 4 * len(packed))]
    content = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, count, value in sorted(entries):
        content += struct.pack("<HHII", tag, 4, count, value)
    content += bytes(4) + struct.pack(f"<{len(packed)}I", *places)
    return content + struct.pack(f"<{len(packed)}I", *map(len, packed)) + b"".join(packed)


WHOLE = {
    "PNG": encode("PNG"), "PNG palette": encode("PNG", noise("P")),
    "JPEG": encode("JPEG"), "JPEG progressive": encode("JPEG", progressive=True),
    "JPEG restarts": encode("JPEG", restart_marker_rows=1),
    "WEBP": encode("WEBP"), "WEBP lossless": encode("WEBP", lossless=True),
    "WEBP alpha": encode("WEBP", noise("RGBA")),
    "GIF": encode("GIF"), "BMP": encode("BMP"), "BMP grey": encode("BMP", noise("L")),
    "PPM": encode("PPM"), "PGM": encode("PPM", noise("L")), "PBM": encode("PPM", noise("1")),
    "TIFF": encode("TIFF"), "TIFF LZW": encode("TIFF", compression="tiff_lzw"),
    "TIFF JPEG": encode("TIFF", compression="jpeg"),
    "TIFF fax": encode("TIFF", noise("1"), compression="group4"),
    "TIFF in strips": front_tiff(zlib.compress, 8, tiled=False),
    "TIFF in tiles": front_tiff(zlib.compress, 8, tiled=True),
    "TIFF in raw tiles": front_tiff(bytes, 1, tiled=True),
    "TGA": encode("TGA"), "TGA packed": encode("TGA", compression="tga_rle"),
    "ICO": encode("ICO", bitmap_format="bmp", sizes=[(32, 32)]), "AVIF": encode("AVIF"),
    "JPEG2000": encode("JPEG2000"),
    "JPEG2000 layers": encode("JPEG2000", irreversible=True, quality_layers=[20, 5]),
    "PCX": encode("PCX"), "SGI": encode("SGI"),
}  # fmt: skip


def image(content: bytes) -> Image:
    return Image(StoredImage("a", lambda: content))


def refused(content: bytes) -> bool:
    """Return whether a picture is refused; the check and the loading must agree."""
    found = image(content)
    try:
        found.load()
    except DataError:
        assert found.fault()
        return True
    return bool(found.fault())


@pytest.mark.parametrize("form", WHOLE)
def test_a_picture_is_found_wherever_it_is_cut(form: str) -> None:
    """Formats with a last part behind their pixels may be whole without a few bytes of it."""
    content = WHOLE[form]
    assert image(content).fault() == "" and not refused(content)
    shown = np.asarray(image(content).load())
    cuts = {*range(1, 300), *np.linspace(300, len(content) - 1, 60).astype(int).tolist()}
    for cut in sorted(cut for cut in cuts if cut < len(content)):
        if not refused(content[:cut]):
            assert cut > len(content) - 40, cut
            np.testing.assert_array_equal(np.asarray(image(content[:cut]).load()), shown)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "JPEG progressive", "JPEG restarts"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_download_that_stopped_leaves_zeros(form: str, share: float) -> None:
    content = WHOLE[form]
    cut = int(len(content) * share)
    assert image(content[:cut] + bytes(len(content) - cut)).fault()


@pytest.mark.parametrize("name", CUT)
def test_pictures_that_people_bring_cut_short(name: str) -> None:
    example = Example(
        "7", (Turn("user", "<image>?"), Turn("assistant", "a")), (Image(PICTURES / name),)
    )
    with pytest.raises(DataError, match=rf"public item 0 \(id '7'\), field 'image': .*{name} is "):
        check_images({"public": [example]})
    with pytest.raises(DataError, match=f"{name} is .*cut short"):
        example.images[0].load()


def test_a_thumbnail_does_not_make_a_photograph_whole() -> None:
    """The thumbnail inside has an end marker of its own, also near the end of the cut file."""
    note = PIL.Image.Exif()
    note[0x010E] = "camera"
    thumbnail = encode("JPEG", noise(side=16))
    content = encode("JPEG", exif=note.tobytes() + thumbnail)
    assert not refused(content) and thumbnail in content
    end = content.index(thumbnail) + len(thumbnail)
    for cut in (end, end + 40, end + 700, len(content) - 2):
        assert refused(content[:cut]), cut


def test_a_photograph_followed_by_something_else_is_whole() -> None:
    first, second = encode("JPEG"), encode("JPEG", noise(side=20))
    assert not refused(first + second + b"a film")
    both = encode("MPO", save_all=True, append_images=[noise(side=20)])
    assert not refused(both) and refused(both[: len(first) // 2])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ((PICTURES / "page.jpg").read_bytes(), "is a web page"),
        (b"\n<!DOCTYPE html><title>404</title>", "is a web page"),
        ((PICTURES / "drawing.svg").read_bytes(), "is an SVG drawing"),
        (b"<?xml version='1.0'?>\n<!-- drawn -->\n<svg/>", "is an SVG drawing"),
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "is PostScript"),
        (b"a text", "no image of a known format"),
    ],
)
def test_what_is_no_picture_is_named(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        image(content).load()
    with pytest.raises(DataError, match=reason):
        _ = image(content).size
    assert reason in image(content).fault()


def test_no_format_starts_another_program() -> None:
    assert not {"EPS", "PDF", "WMF", "MPEG"} & set(FORMATS)


def test_what_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "none.png", "does not exist"),
        (tmp_path / "pipe.png", "is a device or pipe"),
    ):
        for read in (lambda i: i.load(), lambda i: i.size, lambda i: i.key):
            with pytest.raises(DataError, match=f"image file {path} {reason}"):
                read(Image(path))
        assert reason in Image(path).fault()


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(WHOLE["PNG"])
    path.chmod(0)
    assert "cannot be read: Permission denied" in Image(path).fault()


def test_a_picture_that_would_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match=r"is too large: .*decompression bomb"):
        image(WHOLE["PNG"]).load()
    assert "too large" in image(WHOLE["PNG"]).fault()


def test_a_stored_picture_that_cannot_be_read_is_named() -> None:
    def read() -> bytes:
        raise DataError("data URI: its base64 is not valid")

    image = Image(StoredImage("a", read))
    assert "base64" in image.fault()
    with pytest.raises(DataError, match="base64"):
        image.load()


def test_a_shared_bad_picture_is_counted_once(tmp_path: Path) -> None:
    turns = (Turn("user", "<image>?"), Turn("assistant", "a"))
    bad, stored = Image(tmp_path / "a.png"), image(b"")
    examples = [Example(str(k), turns, (picture,)) for k in range(2) for picture in (bad, stored)]
    with pytest.raises(DataError, match=r"does not exist \(1 more image files are bad\)$"):
        check_images({"train": examples})
