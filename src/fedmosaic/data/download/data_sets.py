"""Download data sets of DRAKE and HFLB, and say which are there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from fedmosaic.data.download.hub import Archive, Progress, fetch, list_archives
from fedmosaic.data.download.unpack import unpack
from fedmosaic.data.sources import Benchmark, DataSource, absent_files, sources_of
from fedmosaic.errors import DataError, nearest
from fedmosaic.files import write_atomic

RECORD = ".fedmosaic.json"
"""File in a data set's folder that says which archive it was unpacked from."""
WORK = ".download"
"""Folder below the root with what is being downloaded."""

State = Literal["there", "there, not by this command", "incomplete", "begun", "missing"]
Progresses = Callable[[str], Progress]
"""Gives the progress callback of a data set."""


@dataclass(frozen=True)
class DataSetState:
    """Hold how a data set stands below a root.

    Attributes:
        source: the data set.
        state: ``there``: unpacked by :func:`download`. ``there, not by this command``: a folder
            with the files of all tasks. ``incomplete``: a folder that lacks some. ``begun``: a
            download was interrupted.
        archive: its archive; None if the Hub was not asked or has none.
    """

    source: DataSource
    state: State
    archive: Archive | None = None


def state_of(source: DataSource, root: Path) -> State:
    """Return how a data set stands below ``root``."""
    folder = root / source.name
    if (folder / RECORD).is_file():
        return "there"
    if folder.exists():
        return "incomplete" if absent_files(source, folder) else "there, not by this command"
    return "begun" if any((root / WORK).glob(f"{source.name}.*")) else "missing"


def chosen_sources(benchmark: Benchmark, names: Sequence[str]) -> list[DataSource]:
    """Return the data sets of these names; all of the benchmark for no name.

    Raises:
        DataError: a name is unknown; the message has the nearest ones.
    """
    known = {source.name: source for source in sources_of(benchmark.name)}
    for name in names:
        if name not in known:
            raise DataError(f"{benchmark.title} has no data set {name!r}.{nearest(name, known)}")
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def survey(
    benchmark: Benchmark, root: Path, names: Sequence[str] = (), endpoint: str | None = None
) -> list[DataSetState]:
    """Return how data sets stand below ``root``, with their archives on the Hub.

    Args:
        benchmark: whose data sets.
        root: folder of the data sets.
        names: names of data sets; default all.
        endpoint: as for :func:`fedmosaic.data.download.hub.list_archives`.

    Raises:
        DataError: a name is unknown, or the Hub cannot be reached.
    """
    sources = chosen_sources(benchmark, names)
    archives = _by_name(list_archives(benchmark.repository, endpoint))
    return [
        DataSetState(source, state_of(source, root), archives.get(source.name.casefold()))
        for source in sources
    ]


def list_data_sets(
    benchmark: Benchmark, root: Path, names: Sequence[str] = (), endpoint: str | None = None
) -> tuple[list[DataSetState], str]:
    """Return how data sets stand, as :func:`survey`, and why the Hub was not reached, if so.

    Raises:
        DataError: a name is unknown.
    """
    sources = chosen_sources(benchmark, names)
    try:
        return survey(benchmark, root, names, endpoint), ""
    except DataError as error:
        states = [DataSetState(source, state_of(source, root)) for source in sources]
        return states, f"sizes are not known: {error}"


def download(
    benchmark: Benchmark,
    root: Path,
    names: Sequence[str] = (),
    endpoint: str | None = None,
    progress: Progresses = lambda name: lambda stage, done, total: None,
) -> list[DataSetState]:
    """Download and unpack the data sets that do not lie below ``root``.

    A data set is there or not: its folder appears when everything is unpacked. After an
    interruption the same call continues. Nothing is asked of the Hub if all are there.

    Args:
        benchmark: whose data sets.
        root: folder of the data sets; made if it does not exist.
        names: names of data sets; default all that the Hub has.
        endpoint: as for :func:`survey`.
        progress: gives the progress callback of a data set.

    Returns:
        How each data set stands afterwards. One that was not named and that the Hub does not have
        is ``missing``.

    Raises:
        DataError: a name is unknown; the Hub cannot be reached, or lacks an archive that was named;
            the disk is too small; a folder of that name is there and incomplete; or an archive is
            not what the Hub states.
    """
    states = [DataSetState(s, state_of(s, root)) for s in chosen_sources(benchmark, names)]
    if all(state.state.startswith("there") for state in states):
        return states
    states = survey(benchmark, root, names, endpoint)
    wanted = [state for state in states if not state.state.startswith("there")]
    for state in wanted:
        _check_possible(state, benchmark, root, bool(names))
    todo = {state.source: state.archive for state in wanted if state.archive is not None}
    with _only_one(root):
        _check_space(root, todo)
        for source, archive in todo.items():
            if not state_of(source, root).startswith("there"):  # nor put there in the meantime
                _get(source, archive, root, progress(source.name))
    return [DataSetState(s.source, state_of(s.source, root), s.archive) for s in states]


def _get(source: DataSource, archive: Archive, root: Path, progress: Progress) -> None:
    """Download, verify and unpack a data set."""
    work = root / WORK
    for path in work.glob(f"{source.name}.*"):
        if f".{archive.version}." not in path.name:  # of another version of the archive
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    whole, part, unpacked = _work_paths(source, archive, root)
    if not whole.is_file():
        fetch(archive, part, progress)
        part.replace(whole)
    content = unpack(whole, source.name, unpacked, progress)
    if lacking := absent_files(source, content):
        names = ", ".join(str(path.relative_to(content)) for path in lacking)
        raise DataError(
            f"{archive.path} lacks {names}: what it has is in {content}, and is not put in place"
        )
    facts = {
        "repository": archive.repository,
        "archive": archive.path,
        "commit": archive.commit,
        "sha256": archive.sha256,
    }
    write_atomic(content / RECORD, json.dumps(facts, indent=2) + "\n")
    content.replace(root / source.name)
    whole.unlink()
    shutil.rmtree(unpacked, ignore_errors=True)  # it may have been the data set itself


def _work_paths(source: DataSource, archive: Archive, root: Path) -> tuple[Path, Path, Path]:
    """Return the verified archive, the one being downloaded, and the folder for unpacking."""
    base = f"{source.name}.{archive.version}"
    return tuple(root / WORK / f"{base}.{end}" for end in ("archive", "part", "unpacked"))  # type: ignore[return-value]


def _by_name(archives: Sequence[Archive]) -> dict[str, Archive]:
    """Return archives by name, in lower case; of equal names the one nearest to the top."""
    ordered = sorted(archives, key=lambda archive: -archive.path.count("/"))
    return {archive.stem.casefold(): archive for archive in ordered}


def _check_possible(state: DataSetState, benchmark: Benchmark, root: Path, named: bool) -> None:
    folder = root / state.source.name
    if state.state == "incomplete":
        lacking = absent_files(state.source, folder)[0].relative_to(folder)
        raise DataError(
            f"{folder} is there and lacks {lacking}: it was unpacked in part, or is another data "
            "set; move it away and repeat the command"
        )
    if named and state.archive is None:
        raise DataError(
            f"{benchmark.repository} on the Hub has no archive of {state.source.name}; its source "
            f"is {state.source.address}"
        )


def _check_space(root: Path, archives: dict[DataSource, Archive]) -> None:
    """Refuse to begin where the disk is too small.

    Each archive is removed when it is unpacked, so the largest counts twice.
    """
    here = 0
    for source, archive in archives.items():
        for path in _work_paths(source, archive, root):
            files = path.rglob("*") if path.is_dir() else [path]
            here += sum(file.stat().st_size for file in files if file.is_file())
    sizes = [archive.size for archive in archives.values()]
    needed = sum(sizes) + max(sizes, default=0) - here
    free = shutil.disk_usage(root).free
    if needed > free:
        raise DataError(
            f"{root} needs {needed / 1e9:.1f} GB for {len(sizes)} data sets, and {free / 1e9:.1f} "
            "GB are free: choose another disk with --to, or fewer data sets with --only"
        )


@contextmanager
def _only_one(root: Path) -> Iterator[None]:
    """Hold the lock of a root, and remove its working folder if nothing is left in it."""
    (root / WORK).mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / WORK / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"another download into {root} is running; wait until it ends") from error
    try:
        yield
    finally:
        lock.release()
        if {path.name for path in (root / WORK).iterdir()} <= {"lock"}:
            shutil.rmtree(root / WORK)
