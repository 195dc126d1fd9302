"""Test that data sets are downloaded whole or not at all, and that an interruption continues."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fedmosaic.data.download import data_sets, download, hub, state_of
from fedmosaic.data.download.data_sets import RECORD, WORK
from fedmosaic.data.sources import SOURCES, benchmark
from fedmosaic.errors import DataError
from tests.drake.fake_hub import COMMIT, FILES, FakeHub, archive, data_set

DRAKE = benchmark("drake")


@pytest.fixture
def get(server: FakeHub, tmp_path: Path) -> Callable[..., Any]:
    """Download data sets by name into ``tmp_path``."""
    return lambda *names, **more: download(DRAKE, tmp_path, names, server.address, **more)


def files_of(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    return {str(path.relative_to(folder.parent)): path.read_bytes() for path in paths}


def test_a_data_set_is_there_as_its_archive_has_it(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    (state,) = get("VSR")
    assert (state.state, state.source.name) == ("there", "VSR")
    assert files_of(tmp_path / "VSR") == data_set("VSR")
    record = json.loads((tmp_path / "VSR" / RECORD).read_text())
    assert (record["archive"], record["commit"]) == ("VSR.tar", COMMIT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["VSR"]  # nothing of the way there
    assert state_of(SOURCES["NLVR2"], tmp_path) == "missing"


def test_what_is_there_is_not_asked_for(server: FakeHub, get: Callable[..., Any]) -> None:
    get("VSR")
    server.requests.clear()
    assert [state.state for state in get("VSR")] == ["there"]
    assert not server.requests
    get("NLVR2", "VSR")
    assert not [path for path in server.requests if "VSR" in path]


def test_all_that_the_hub_has_is_downloaded(get: Callable[..., Any], tmp_path: Path) -> None:
    states = {state.source.name: state.state for state in get()}
    assert {name for name, state in states.items() if state == "there"} == {"VSR", "NLVR2"}
    assert len(states) == 25 and not (tmp_path / "ocr_vqa").exists()


def test_a_connection_that_is_cut_is_taken_up_where_it_ended(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    server.cut = [7000, 2000]
    get("VSR")
    size = len(FILES["VSR.tar"])
    assert server.ranges == [f"bytes={start}-{size - 1}" for start in (0, 7000, 9000)]
    assert files_of(tmp_path / "VSR") == data_set("VSR")


def test_a_download_that_was_stopped_goes_on_in_the_next_call(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    server.cut = [7000, *[0] * hub.ATTEMPTS]
    with pytest.raises(DataError, match=r"VSR.tar: .*; 34 % are here: repeat the command"):
        get("VSR")
    assert state_of(SOURCES["VSR"], tmp_path) == "begun" and not (tmp_path / "VSR").exists()
    server.ranges.clear()
    get("VSR")
    assert server.ranges == [f"bytes=7000-{len(FILES['VSR.tar']) - 1}"]
    assert files_of(tmp_path / "VSR") == data_set("VSR")


def test_a_large_archive_is_fetched_in_ranges(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "RANGE", 8000)
    get("VSR")
    assert server.ranges[:2] == ["bytes=0-7999", "bytes=8000-15999"]
    assert files_of(tmp_path / "VSR") == data_set("VSR")


def test_a_server_without_ranges_is_read_from_the_beginning(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    server.knows_ranges, server.cut = False, [7000]
    get("VSR")
    assert files_of(tmp_path / "VSR") == data_set("VSR")


def test_a_page_of_the_network_takes_nothing_away(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    server.page = b"<html>Please log in</html>"
    with pytest.raises(DataError, match="does not answer as the Hub does"):
        get("VSR")
    server.page, server.cut = b"", [7000, *[0] * hub.ATTEMPTS]
    with pytest.raises(DataError, match="34 % are here"):
        get("VSR")
    (part,) = (tmp_path / WORK).glob("VSR.*.part")
    archives = hub.list_archives("SNUMPR/DRAKE", server.address)
    server.page = b"<html>Please log in</html>"
    found = next(one for one in archives if one.stem == "VSR")
    with pytest.raises(DataError, match="sent 26 bytes, not the archive"):
        hub.fetch(found, part, lambda step, done, total: None)
    assert part.stat().st_size == 7000


def test_other_content_than_the_hub_states_is_refused(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    server.stated["VSR.tar"] = b"other"
    with pytest.raises(DataError, match=r"VSR\.tar of SNUMPR/DRAKE .*SHA-256 differs.*repeat"):
        get("VSR")
    assert state_of(SOURCES["VSR"], tmp_path) == "missing" and not (tmp_path / "VSR").exists()
    server.stated.clear()
    get("VSR")
    assert files_of(tmp_path / "VSR") == data_set("VSR")


def test_unpacking_that_was_stopped_goes_on(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    def stop(name: str) -> Callable[[str, int, int], None]:
        members: list[int] = []

        def count(step: str, done: int, total: int) -> None:
            if step == "unpacking" and len(members) == 3:
                raise KeyboardInterrupt
            members.extend([done] if step == "unpacking" else [])

        return count

    with pytest.raises(KeyboardInterrupt):
        get("VSR", progress=stop)
    assert not (tmp_path / "VSR").exists() and state_of(SOURCES["VSR"], tmp_path) == "begun"
    (unpacked,) = (tmp_path / WORK).glob("VSR.*.unpacked")
    before = {path: path.stat().st_ino for path in unpacked.rglob("*.j*")}
    complete, broken, empty = sorted(before)[:3]
    broken.write_bytes(b"")  # as if the interruption came while it was written
    empty.write_bytes(bytes(empty.stat().st_size))  # as a disk may leave it after a power failure
    server.ranges.clear()
    get("VSR")
    assert not server.ranges and files_of(tmp_path / "VSR") == data_set("VSR")
    assert (tmp_path / "VSR" / complete.relative_to(unpacked / "VSR")).stat().st_ino == before[
        complete
    ]


def test_what_was_begun_of_another_version_is_removed(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    server.cut = [7000, *[0] * hub.ATTEMPTS]
    with pytest.raises(DataError):
        get("VSR")
    server.files["VSR.tar"] = archive(data_set("VSR", pictures=5))
    get("VSR")
    assert files_of(tmp_path / "VSR") == data_set("VSR", pictures=5)
    assert not (tmp_path / WORK).exists()


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (archive({"VSR/../../evil": b"x"}), "'VSR/../../evil' is not unpacked.*leads out"),
        (archive(data_set("VSR"), links={"VSR/a": "/etc"}), "'VSR/a' .* a link or a device"),
        (archive(data_set("VSR"), links={"VSR/a": "images"}), "'VSR/a' .* a link or a device"),
        (b"no tar at all" * 100, "cannot be unpacked"),
        (archive(data_set("VSR"))[:12000], "cannot be unpacked"),
        (archive({"VSR/images/1.jpg": b"x"}), "no folder with train/dataset"),
        (archive({"VSR/train/dataset-0.json": b"[]"}), "lacks test/dataset-0.json"),
        (
            archive(data_set("a") | data_set("b")),
            r"several data sets \(a, b\), none named VSR",
        ),
    ],
)
def test_an_archive_that_cannot_be_unpacked_is_named(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path, content: bytes, match: str
) -> None:
    server.files["VSR.tar"] = content
    with pytest.raises(DataError, match=match):
        get("VSR")
    assert not (tmp_path / "VSR").exists() and not (tmp_path.parent / "evil").exists()


def test_an_absolute_path_stays_in_the_folder(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    server.files["VSR.tar"] = archive({f"/{k}": v for k, v in data_set("VSR").items()})
    get("VSR")
    assert files_of(tmp_path / "VSR") == data_set("VSR")


@pytest.mark.parametrize("prefix", ["", "./", "dataset/", "./x/"])
@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
def test_the_layout_of_the_archive_does_not_matter(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path, prefix: str, ending: str
) -> None:
    del server.files["VSR.tar"]
    files = {prefix + path: content for path, content in data_set("vsr").items()}
    mode = "w:gz" if ending == ".tar.gz" else "w"
    server.files[f"more/vsr{ending}"] = archive(files | {"._vsr": b"of another system"}, mode)
    get("VSR")
    assert files_of(tmp_path / "VSR") == data_set("VSR")


def test_a_folder_that_is_there_is_left_as_it_is(
    server: FakeHub, get: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "VSR" / "train").mkdir(parents=True)
    (tmp_path / "VSR/train/dataset-0.json").write_text("mine")
    with pytest.raises(DataError, match=r"VSR is there and lacks test/dataset-0.json: .*move it"):
        get("VSR")
    (tmp_path / "VSR/test").mkdir()
    (tmp_path / "VSR/test/dataset-0.json").write_text("mine")
    assert [state.state for state in get("VSR")] == ["there, not by this command"]
    assert (tmp_path / "VSR/train/dataset-0.json").read_text() == "mine" and not server.ranges


def test_the_disk_is_looked_at_first(
    server: FakeHub, get: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 30_000

    monkeypatch.setattr(data_sets.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(DataError, match=r"needs 0.0 GB for 1 data sets?, and 0.0 GB are free"):
        get("VSR")
    assert not server.ranges
    Usage.free = 2 * len(FILES["VSR.tar"])
    get("VSR")


def test_two_downloads_into_one_folder(get: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / WORK).mkdir()
    with (
        FileLock(tmp_path / WORK / "lock"),
        pytest.raises(DataError, match=r"another download into .* is running"),
    ):
        get("VSR")
    get("VSR")


def test_a_named_data_set_that_the_hub_lacks(get: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="SNUMPR/DRAKE on the Hub has no archive of CIRR; its sour"):
        get("CIRR")
