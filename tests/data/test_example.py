"""Test examples, images and tasks: what they require, and how images are opened."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from fedmosaic.data.example import Example, LazyExamples, Task, Turn, fingerprint
from fedmosaic.data.image import Image
from fedmosaic.errors import DataError

ANSWER = Turn("assistant", "two")


def palette_png(path: Path, transparency: bytes | int | None) -> np.ndarray:
    """Write a picture with a palette of four colours, and return how it looks before white."""
    colours = np.array([[200, 10, 10], [10, 200, 10], [10, 10, 200], [90, 90, 90]], np.uint8)
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 4
    picture = PIL.Image.fromarray(indices).convert("L")
    picture.putpalette(colours.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    picture.save(path, **options)
    opacity = np.full(4, 255)
    if isinstance(transparency, bytes):
        opacity[:] = list(transparency)
    elif transparency is not None:
        opacity[transparency] = 0
    share = opacity[:, None] / 255
    return np.rint(colours * share + 255 * (1 - share)).astype(np.uint8)[indices]


@pytest.mark.parametrize("transparency", [bytes([0, 128, 255, 255]), 1, None])
def test_a_palette_with_transparency_is_opened_without_a_warning(
    tmp_path: Path, transparency: bytes | int | None
) -> None:
    path = tmp_path / "palette.png"
    pixels = palette_png(path, transparency)
    with PIL.Image.open(path) as written:
        assert written.mode == "P" and written.info.get("transparency") == transparency
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = Image(path).load()
    assert loaded.mode == "RGB"
    np.testing.assert_allclose(np.asarray(loaded).astype(int), pixels, atol=1)


def test_plain_conversion_of_such_a_palette_would_warn(tmp_path: Path) -> None:
    """Show that the test above is about what Pillow warns of."""
    path = tmp_path / "palette.png"
    palette_png(path, bytes([0, 128, 255, 255]))
    with PIL.Image.open(path) as picture, pytest.warns(UserWarning, match="RGBA"):
        picture.convert("RGB")


def test_an_image_is_a_file_an_array_or_a_function(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path = tmp_path / "a.png"
    PIL.Image.fromarray(pixels).save(path)
    images = [Image(path), Image(pixels), Image(lambda: pixels)]
    for image in images:
        np.testing.assert_array_equal(np.asarray(image.load()), pixels)
    assert images[1].key == images[2].key and len(images[0].key) == 32
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"bad\.png is corrupt"):
        Image(tmp_path / "bad.png").load()
    with pytest.raises(DataError, match=r"none\.png does not exist"):
        _ = Image(tmp_path / "none.png").key


def test_a_task_built_by_hand() -> None:
    image = Image(np.zeros((2, 2, 3), np.uint8))
    turns = (Turn("user", "<image> How many? Options: one, two"), ANSWER)
    example = Example("17", turns, (image,), ("one", "two"))
    assert (example.question, example.answer) == (turns[0].text, "two")
    task = Task("cats", train=[example], test=[example])
    assert (task.kind, task.metric, task.family, task.group) == ("choice", "accuracy", "", "")
    assert Example("text", (ANSWER,)).question == ""


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ((), "last turn must be the assistant's"),
        ((Turn("user", "Why?"),), "last turn must be the assistant's"),
        ((Turn("user", "<image> <image>?"), ANSWER), "2 <image> marks for 1 images"),
    ],
)
def test_malformed_examples_are_refused(turns: tuple[Turn, ...], message: str) -> None:
    with pytest.raises(DataError, match=f"example 'bad': .*{message}"):
        Example("bad", turns, (Image(np.zeros((2, 2, 3), np.uint8)),))


def test_lazy_examples_are_made_once_and_the_fingerprint_ignores_ids() -> None:
    made: list[int] = []

    def make(index: int) -> Example:
        made.append(index)
        return Example(f"{len(made)}", (Turn("user", f"{index}?"), ANSWER))

    examples = LazyExamples(5, make)
    assert len(examples) == 5 and not made
    assert examples[-1] is examples[4] and made == [4]
    assert [example.question for example in examples[1:3]] == ["1?", "2?"]
    assert fingerprint(examples) == fingerprint(LazyExamples(5, make))
    assert fingerprint(examples) != fingerprint(examples[1:])
