"""Test that a model is shown a picture as people see it: turned, scaled, before a background."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from fedmosaic.data import Example, Image, Turn
from fedmosaic.data.background import before
from fedmosaic.data.image import StoredImage
from fedmosaic.data.records import FileExamples, RecordLocation
from fedmosaic.errors import DataError

PICTURES = Path(__file__).parents[1] / "cases" / "pictures"
GREY = np.linspace(0, 65535, 48 * 32).round().astype(np.uint16).reshape(32, 48)
SEEN = np.rint(GREY / 257).astype(np.uint8)  # 65535 = 255 · 257
RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 20), (20, 20, 230), (240, 240, 240)
ORIENTATION = 0x0112


def stored(content: bytes) -> Image:
    return Image(StoredImage("rows.parquet: row 3, column image", lambda: content))


def encode(picture: PIL.Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(content: bytes, background: Any = "white") -> np.ndarray:
    """Return what a model is shown, after checks that hold for every good picture."""
    image = Image(StoredImage("picture", lambda: content), background)
    shown = np.asarray(image.load())
    assert image.fault() == ""
    assert image.size == shown.shape[:2] and shown.shape[2] == 3 and shown.dtype == np.uint8
    return shown


def tiff(values: np.ndarray, order: str = "<", **tags: int) -> bytes:
    """Write an uncompressed grey TIFF of any type of value, which Pillow does not write itself."""
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder(order))
    height, width = values.shape
    bits = tags.get("bits", values.dtype.itemsize * 8)
    kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    entries = [
        *((256, width), (257, height), (258, bits), (259, 1), (262, tags.get("photometric", 1))),
        *((273, 8), (277, 1), (278, height), (279, values.nbytes), (339, kind)),
    ]
    content = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "I", 8 + values.nbytes)
    content += values.tobytes() + struct.pack(order + "H", len(entries))
    for tag, value in entries:
        content += struct.pack(order + "HHII", tag, 4, 1, value)
    return content + bytes(4)


def png(width: int, depth: int, colour: int, row: bytes, *clear: int) -> bytes:
    """Write a PNG of one row, with a transparent colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    content = chunk(b"IHDR", struct.pack(">IIBBBBB", width, 1, depth, colour, 0, 0, 0))
    if clear:
        content += chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    content += chunk(b"IDAT", zlib.compress(b"\0" + row)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


def quarters() -> PIL.Image.Image:
    """Return 40 by 24 pixels whose four quarters differ."""
    corners = np.array([[RED, GREEN], [BLUE, WHITE]], np.uint8)
    return PIL.Image.fromarray(corners.repeat(12, 0).repeat(20, 1))


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("grey16.png", 127.5), ("grey16-dark.png", 11.7), ("grey16.tif", 127.5),
        ("int32.tif", 127.5), ("float.tif", 127.5), ("float-255.tif", 127.5),
        ("black-figure.png", 191.2), ("hidden-green.png", 191.2),
        ("half-clear.png", (227.4, 127, 177.2)), ("grey-alpha.png", 206.2),
        ("palette-clear.png", (137.5, 157.5, 227.5)), ("palette-clear.gif", (137.5, 157.5, 227.5)),
        ("palette.png", (137.5, 30, 227.5)), ("cmyk.tif", (110, 0, 110)), ("one-bit.png", 127.5),
        ("two-frames.gif", (200, 40, 40)), ("other-name.png", (30, 90, 150)),
        ("thin.png", (10, 20, 30)), ("dot.png", (9, 8, 7)),
    ],
)  # fmt: skip
def test_pictures_that_people_bring(name: str, mean: Any) -> None:
    shown = pixels((PICTURES / name).read_bytes())
    np.testing.assert_allclose(shown.mean((0, 1)), np.broadcast_to(mean, 3), atol=1)


@pytest.mark.parametrize(
    ("number", "corners"),  # top left, top right, bottom left
    [
        (1, (RED, GREEN, BLUE)), (2, (GREEN, RED, WHITE)), (3, (WHITE, BLUE, GREEN)),
        (4, (BLUE, WHITE, RED)), (5, (RED, BLUE, GREEN)), (6, (BLUE, RED, WHITE)),
        (7, (WHITE, GREEN, BLUE)), (8, (GREEN, WHITE, RED)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF deflate", "AVIF"])
def test_a_picture_is_turned_as_its_camera_noted(
    form: str, number: int, corners: tuple[tuple[int, int, int], ...]
) -> None:
    form, *more = form.split()
    note = PIL.Image.Exif()
    note[ORIENTATION] = number
    options: dict[str, Any] = {"compression": "tiff_adobe_deflate"} if more else {"quality": 95}
    content = encode(quarters(), form, exif=note, **options)
    shown = pixels(content).astype(int)
    assert shown.shape[:2] == ((24, 40) if number < 5 else (40, 24))
    for found, expected in zip((shown[3, 3], shown[3, -4], shown[-4, 3]), corners, strict=True):
        np.testing.assert_allclose(found, expected, atol=25)


def test_a_png_may_note_behind_its_pixels_that_it_is_turned() -> None:
    note = PIL.Image.Exif()
    note[ORIENTATION] = 6
    before, after = encode(quarters(), exif=note), encode(quarters())
    start = before.index(b"eXIf") - 4
    length = struct.unpack_from(">I", before, start)[0] + 12
    late = after[:-12] + before[start : start + length] + after[-12:]
    np.testing.assert_array_equal(pixels(late), pixels(before))
    assert stored(late).size == (40, 24)


def test_a_turn_that_cannot_be_read_is_passed_over() -> None:
    content = encode(quarters(), "JPEG", exif=b"Exif\0\0no note", quality=95)
    assert pixels(content).shape == (24, 40, 3)


@pytest.mark.parametrize("order", ["<", ">"])
def test_grey_values_of_16_bits_are_scaled(order: str) -> None:
    for content in (tiff(GREY, order), encode(PIL.Image.fromarray(GREY))):
        np.testing.assert_array_equal(pixels(content)[..., 0], SEEN)


@pytest.mark.parametrize("form", ["TIFF", "JPEG2000", "PPM"])
def test_grey_values_of_16_bits_are_scaled_in_other_formats(form: str) -> None:
    shown = pixels(encode(PIL.Image.fromarray(GREY), form))
    np.testing.assert_array_equal(shown[..., 0], SEEN)


def test_compressed_grey_values_of_16_bits_are_scaled() -> None:
    content = encode(PIL.Image.fromarray(GREY), "TIFF", compression="tiff_lzw")
    np.testing.assert_array_equal(pixels(content)[..., 0], SEEN)


def test_dark_values_of_16_bits_are_not_stretched() -> None:
    shown = pixels(tiff(GREY // 16))
    assert shown.max() == round(4095 / 257)


def test_a_pgm_is_scaled_by_its_own_largest_value() -> None:
    content = b"P5 3 1 1000\n" + struct.pack(">3H", 0, 500, 1000)
    assert pixels(content)[0, :, 0].tolist() == [0, 128, 255]


def test_grey_values_whose_zero_is_white_are_inverted() -> None:
    shown = pixels(tiff(GREY, photometric=0))
    np.testing.assert_array_equal(shown[..., 0], np.rint(255 - GREY / 257))
    shown = pixels(tiff((GREY / 65535).astype(np.float32), photometric=0))
    np.testing.assert_allclose(shown[..., 0], 255 - GREY / 257, atol=0.51)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("top", [1, 255])
def test_floats_of_either_range_are_scaled(order: str, top: int) -> None:
    content = tiff((GREY / 65535 * top).astype(np.float32), order)
    np.testing.assert_allclose(pixels(content)[..., 0], GREY / 257, atol=0.51)


def test_integers_of_32_bits_are_read_over_16() -> None:
    np.testing.assert_array_equal(pixels(tiff(GREY.astype(np.int32)))[..., 0], SEEN)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[0.5, np.nan]], np.float32), "NaN"),
        (np.array([[0.5, np.inf]], np.float32), "no numbers"),
        (np.array([[-0.5, 0.5]], np.float32), "floats from -0.5 to 0.5"),
        (np.array([[0, 1.5]], np.float32), "floats from 0 to 1.5"),
        (np.array([[0, 1000]], np.float32), "floats from 0 to 1000"),
        (np.array([[-1, 1000]], np.int32), "32-bit integers from -1 to 1000"),
        (np.array([[0, 70000]], np.int32), "32-bit integers from 0 to 70000"),
        (np.array([[0, 200]], np.int32), "32-bit integers from 0 to 200"),
        (np.array([[0, 2000]], np.int16), "signed 16-bit integers from 0 to 2000"),
        (np.array([[0, 100]], np.int8), "signed 8-bit"),
    ],
)
def test_pixels_without_one_reading_are_refused(values: np.ndarray, message: str) -> None:
    image = stored(tiff(values))
    expected = f"^image of rows.parquet: row 3, column image has .*{message}.*save it with"
    with pytest.raises(DataError, match=expected):
        image.load()
    with pytest.raises(DataError, match=expected):
        raise DataError(image.fault())


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(2, 1, 0, b"\x40", 1), [0, 255]),
        (png(2, 1, 0, b"\x40", 0), [255, 255]),
        (png(4, 2, 0, b"\x1b", 2), [0, 85, 255, 255]),
        (png(2, 4, 0, b"\x0e", 0), [255, 238]),
        (png(2, 8, 0, b"\x0f\xf0", 15), [255, 240]),
        (png(2, 16, 0, struct.pack(">2H", 1000, 2570), 1000), [255, 10]),
        (png(2, 16, 4, struct.pack(">4H", 0, 0, 2570, 65535)), [255, 10]),
        (png(2, 8, 2, bytes([1, 2, 3, 9, 9, 9]), 1, 2, 3), [255, 9]),
    ],
    ids=["1 bit", "1 bit, 0", "2 bits", "4 bits", "8 bits", "16 bits", "16 bits, alpha", "colour"],
)
def test_a_transparent_colour_shows_white(content: bytes, expected: list[int]) -> None:
    assert pixels(content)[0, :, 0].tolist() == expected


def test_a_transparent_colour_of_16_bits_is_refused_before_and_while_loading() -> None:
    image = stored(png(2, 16, 2, struct.pack(">6H", *range(6)), 0, 1, 2))
    with pytest.raises(DataError, match="16-bit colours"):
        image.load()
    assert "alpha channel" in image.fault()


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "TGA", "JPEG2000"])
def test_the_background_shows_through_and_hidden_colours_do_not(form: str) -> None:
    hidden = np.array([[[10, 250, 10, 0], [200, 0, 100, 128], [1, 2, 3, 255]]], np.uint8)
    options = {"lossless": True, "exact": True} if form == "WEBP" else {}
    content = encode(PIL.Image.fromarray(hidden), form, **options)
    for background, value in (("white", 255), ("black", 0)):
        shown = pixels(content, background)[0].astype(int)
        expected = np.array([200, 0, 100]) * 128 / 255 + value * 127 / 255
        assert shown[0].tolist() == [value] * 3 and shown[2].tolist() == [1, 2, 3]
        np.testing.assert_allclose(shown[1], expected, atol=1)


def test_images_before_other_backgrounds_have_other_keys() -> None:
    content = StoredImage("a", lambda: encode(quarters()))
    assert Image(content).key == Image(content, "white").key != Image(content, "black").key


def test_examples_before_another_background_know_their_file_and_share_their_images() -> None:
    image = stored(encode(quarters()))
    turns = (Turn("user", "<image>?"), Turn("assistant", "a"))
    examples = FileExamples.build(
        [RecordLocation(Path("a.json"), k, str(k)) for k in (0, 3)],
        [Example(str(k), turns, (image,)) for k in range(2)],
    )
    assert before(examples, "white") is examples
    made = before(examples, "black")
    assert isinstance(made, FileExamples) and made.positions == (0, 3)
    first, second = (example.images[0] for example in made)
    assert first is second and first.background == "black" and first.source is image.source


def test_a_gif_whose_first_frame_is_smaller_than_itself() -> None:
    content = bytearray(encode(PIL.Image.new("RGB", (4, 4), (200, 0, 0)), "GIF"))
    content[6:10] = struct.pack("<HH", 8, 6)
    shown = pixels(bytes(content))
    assert shown[:4, :4].reshape(-1, 3).tolist() == [[200, 0, 0]] * 16
    assert (shown[4:] == 255).all() and (shown[:, 4:] == 255).all()


def test_lab_colours_become_srgb() -> None:
    lab = np.array([[[255, 0, 0], [0, 0, 0], [136, 80, 67]]], np.uint8)
    shown = pixels(encode(PIL.Image.fromarray(lab, "LAB"), "TIFF"))[0].astype(int)
    np.testing.assert_allclose(shown, [[255, 255, 255], [0, 0, 0], [255, 0, 0]], atol=12)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_become_rgb(mode: str) -> None:
    content = encode(quarters().convert(mode), "TIFF")
    np.testing.assert_allclose(pixels(content).astype(int), np.asarray(quarters()), atol=3)


def test_opaque_pictures_are_shown_as_they_are_stored() -> None:
    drawn = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    for picture in (PIL.Image.fromarray(drawn), PIL.Image.fromarray(drawn).convert("RGBA")):
        for form in ("PNG", "BMP", "TIFF"):
            np.testing.assert_array_equal(pixels(encode(picture, form)), drawn)
