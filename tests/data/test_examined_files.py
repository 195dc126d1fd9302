"""Test that image files are examined once, and another time when they change."""

from __future__ import annotations

import multiprocessing
import os
import warnings
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from fedmosaic.data import Image, examine_images
from fedmosaic.data.encoded import Examined, examine
from fedmosaic.data.examine_images import find_faults
from fedmosaic.data.examined_files import ExaminedFiles, FileFacts, FileStamp
from fedmosaic.data.image import StoredImage
from fedmosaic.files import cache_root

OLD = 1_600_000_000 * 10**9


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the pictures that were examined, in order."""
    lengths: list[int] = []

    def counted(content: bytes) -> Examined:
        lengths.append(len(content))
        return examine(content)

    monkeypatch.setattr(examine_images, "examine", counted)
    # Files of a test have just been written.
    monkeypatch.setattr(FileStamp, "settled", property(lambda stamp: True))
    return lengths


def write(path: Path, shade: int = 0, size: tuple[int, int] = (6, 4)) -> Path:
    PIL.Image.new("L", size, shade).save(path)
    return path


def test_a_file_is_examined_once_and_its_images_know_their_keys(
    tmp_path: Path, read: list[int]
) -> None:
    path, bad = write(tmp_path / "a.png"), tmp_path / "b.png"
    bad.write_bytes(b"no picture")
    images = [
        Image(path),
        Image(path),
        Image(path, "black"),
        Image(bad),
        Image(np.zeros((1, 1, 3))),
    ]
    faults = find_faults(images)
    assert list(faults) == [bad] and faults[bad].startswith(f"image file {bad} is corrupt")
    assert len(read) == 2
    later = [Image(path), Image(path, "black"), Image(bad)]  # as another run makes them
    assert find_faults(later) == faults and len(read) == 2
    path.unlink()  # so they can only know it
    assert [image.key for image in later[:2]] == [images[0].key, images[2].key]
    assert later[0].size == later[1].size == (4, 6)
    assert images[0].key == Image(write(path)).key and images[2].key == Image(path, "black").key


@pytest.mark.parametrize("change", ["pixels", "length", "same times"])
def test_a_changed_file_is_examined_another_time(
    tmp_path: Path, read: list[int], change: str
) -> None:
    path = write(tmp_path / "a.bmp")
    os.utime(path, ns=(OLD, OLD))
    first = Image(path)
    assert not find_faults([first])
    write(path, 255, (6, 5) if change == "length" else (6, 4))
    if change == "same times":  # what copying with times does; the change of the entry shows it
        os.utime(path, ns=(OLD, OLD))
    second = Image(path)
    assert not find_faults([second]) and len(read) == 2
    assert first.key != second.key == Image(path).key


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path) -> None:
    """It may be written another time within the resolution of the times."""
    path = write(tmp_path / "a.png")
    stamp = FileStamp.of(path)
    assert stamp is not None and not stamp.settled
    find_faults([Image(path)])
    with ExaminedFiles() as cache:
        assert cache.find([(path, stamp)]) == {}
    assert FileStamp(10, OLD, OLD).settled


def test_files_that_are_not_there_are_looked_for_another_time(
    tmp_path: Path, read: list[int]
) -> None:
    path = tmp_path / "a.png"
    assert find_faults([Image(path)]) == {path: f"image file {path} does not exist"}
    write(path)
    assert find_faults([Image(path)]) == {}


def test_pictures_of_a_table_are_examined(read: list[int]) -> None:
    cell = StoredImage("rows.parquet: row 3", lambda: b"GIF89a")
    faults = find_faults([Image(cell), Image(cell)])
    assert faults[cell].startswith("image of rows.parquet: row 3 is corrupt") and len(read) == 1


def test_a_cache_that_cannot_be_used_costs_a_warning_only(tmp_path: Path) -> None:
    cache_root().mkdir(parents=True)
    (cache_root() / "images.sqlite").write_text(
        "no database, but long enough to be read as one" * 9
    )
    path = write(tmp_path / "a.png")
    with pytest.warns(UserWarning, match=r"not remembered in .*images\.sqlite"):
        assert find_faults([Image(path)]) == {}
    os.environ["FEDMOSAIC_CACHE"] = str(path)  # a file, not a folder
    with pytest.warns(UserWarning, match="not remembered"):
        assert find_faults([Image(path)]) == {}


def test_what_an_older_reader_found_does_not_count(tmp_path: Path) -> None:
    path, stamp, facts = tmp_path / "a.png", FileStamp(1, OLD, OLD), FileFacts("k", "", (1, 1))
    with ExaminedFiles() as cache:
        cache.add([(path, stamp, facts)])
        assert cache.find([(path, stamp)]) == {path: facts}
        assert cache.find([(path, stamp._replace(mtime=OLD + 1))]) == {}
        cache._reader = "0"
        assert cache.find([(path, stamp)]) == {}


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    stamp, facts = FileStamp(1, OLD, OLD), FileFacts("k", "", (1, 1))
    with ExaminedFiles() as cache:
        cache.add([(path, stamp, facts)])
        assert cache.find([(path, stamp)]) == {path: facts}


def _add(path: Path, number: int) -> None:
    stamp = FileStamp(1, OLD, OLD)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for part in range(20):
            names = [Path(f"/{number}/{part}/{k}") for k in range(50)]
            with ExaminedFiles(path) as cache:
                cache.add((name, stamp, FileFacts("k", "", (1, 1))) for name in names)


def test_several_processes_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "images.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(path, number)) for number in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    names = [Path(f"/{w}/{part}/{k}") for w in range(3) for part in range(20) for k in range(50)]
    with ExaminedFiles(path) as cache:
        assert len(cache.find((name, FileStamp(1, OLD, OLD)) for name in names)) == 3000


def test_threads_hide_warnings_and_restore_them(tmp_path: Path) -> None:
    picture = PIL.Image.new("P", (4, 4))
    picture.putpalette([0, 0, 0, 9, 9, 9])
    paths = [tmp_path / f"{k}.gif" for k in range(300)]
    for path in paths:
        picture.save(path, transparency=0)
    before = list(warnings.filters)
    assert find_faults(map(Image, paths)) == {}
    assert warnings.filters == before
