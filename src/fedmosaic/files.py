"""Write files and folders atomically, and locate the cache."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CACHE_VARIABLE = "FEDMOSAIC_CACHE"


def cache_root() -> Path:
    """Return the cache folder: the variable FEDMOSAIC_CACHE, default ``~/.cache/fedmosaic``.

    Everything in it can be made again.
    """
    root = os.environ.get(CACHE_VARIABLE)
    return Path(root).expanduser() if root else Path.home() / ".cache" / "fedmosaic"


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` to ``path`` through a temporary file in the same folder and one rename.

    A reader sees the old content until the new one is complete on disk, and also after a failure
    (e.g. a full disk). Inside an :func:`atomic_folder` this is not needed, because the folder
    itself is renamed when it is complete.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    payload = data.encode() if isinstance(data, str) else data
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_to_cache(entry: Path, data: bytes | str, most: int) -> None:
    """Write a file of the cache if the disk allows it, and remove the least recently used ones.

    A full or read-only disk is no error: everything in the cache can be made again.

    Args:
        entry: the file.
        data: its content.
        most: the most files of its folder with its suffix that stay.
    """
    with suppress(OSError):
        write_atomic(entry, data)
        files = sorted(entry.parent.glob(f"*{entry.suffix}"), key=lambda e: e.stat().st_mtime)
        for other in files[:-most]:
            other.unlink(missing_ok=True)


def write_new(path: Path, data: bytes, private: bool = False) -> None:
    """Write a file that must not exist; only the user may read a private one."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(handle, "wb") as stream:
        stream.write(data)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to ``path`` when the block succeeds.

    A folder that was there before is replaced as a whole. On an exception it stays, and the
    temporary folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield work
        os.chmod(work, 0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.replace(path, old / "old")
            os.replace(work, path)
            shutil.rmtree(old)
        else:
            os.replace(work, path)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


def link(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where the disk has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
