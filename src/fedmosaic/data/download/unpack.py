"""Unpack an archive of a data set, and continue where an interruption stopped."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from fedmosaic.data.download.hub import Progress
from fedmosaic.errors import DataError


def unpack(archive: Path, name: str, work: Path, progress: Progress) -> Path:
    """Unpack a tar file of a data set, compressed or not, and return the data set's folder.

    Files and folders are written, nothing else: a member that leads out of the folder, a link or a
    device is an error. The data set is the folder of the archive that holds ``train``, wherever
    that is.

    Args:
        archive: the tar file.
        name: of the data set, for an archive that has several.
        work: folder to unpack into. What is there already is not written a second time.
        progress: is called after each member with the bytes of the archive that are done.

    Returns:
        ``work`` or a folder in it.

    Raises:
        DataError: the archive is damaged, has a member that is not unpacked, or no data set.
    """
    work.mkdir(parents=True, exist_ok=True)
    total = archive.stat().st_size
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:*") as tar:
            for member in tar:
                _unpack_member(tar, member, work, archive)
                progress("unpacking", min(raw.seek(0, os.SEEK_CUR), total), total)
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk, not of the archive
        raise DataError(
            f"archive {archive} cannot be unpacked ({error}): remove it and repeat the command"
        ) from error
    return _data_set(work, name, archive)


def _unpack_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, work: Path, archive: Path
) -> None:
    """Write a file or folder; skip a file that is there as the archive has it."""
    if not (member.isreg() or member.isdir()):
        raise _refused(archive, member, "it is a link or a device")
    try:
        checked = tarfile.data_filter(member, str(work))
    except tarfile.FilterError as error:
        raise _refused(archive, member, "it leads out of the data set's folder") from error
    target = work / checked.name
    if member.isreg() and target.is_file():
        found = target.stat()
        # The time is set after the content is written.
        if found.st_size == member.size and int(found.st_mtime) == int(member.mtime):
            return
    tar.extract(checked, work, filter="data")


def _refused(archive: Path, member: tarfile.TarInfo, why: str) -> DataError:
    return DataError(
        f"archive {archive}: member {member.name!r} is not unpacked, because {why}; if you trust "
        "it, unpack the archive by hand"
    )


def _data_set(work: Path, name: str, archive: Path) -> Path:
    """Return the unpacked folder of the data set."""
    levels: list[Iterator[Path] | list[Path]] = [[work], work.glob("*"), work.glob("*/*")]
    for level in levels:
        found = [path for path in sorted(level) if (path / "train").is_dir()]
        named = [path for path in found if path.name.casefold() == name.casefold()]
        if len(found) == 1 or named:
            return (named or found)[0]
        if found:
            names = ", ".join(path.name for path in found)
            raise DataError(f"archive {archive} has several data sets ({names}), none named {name}")
    raise DataError(f"archive {archive} has no folder with train/dataset-<k>.json")
