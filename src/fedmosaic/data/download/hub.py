"""List the archives of a dataset repository on the Hugging Face Hub, and fetch one.

``huggingface_hub`` finds the repository and its files, and gives address, login and connection. An
archive is fetched by ranges into a file that stays after an interruption, because
``hf_hub_download`` begins a large file anew.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from io import FileIO
from pathlib import Path
from typing import Any

from fedmosaic.errors import DataError

ARCHIVES = re.compile(r"\.(tar|tar\.gz|tgz|tar\.bz2|tar\.xz)$")
RANGE = 2**30  # bytes asked for at a time; the Hub refuses whole files above 50 GB
CHUNK = 2**20  # bytes of a file read at a time
TIMEOUT = 30.0  # seconds without an answer
ATTEMPTS = 5  # connections that break one after the other without a byte
WAIT = 1.0  # seconds before the second of them; each later one waits longer
_PASSING = (408, 429, 500, 502, 503, 504)

Progress = Callable[[str, int, int], None]
"""Is called with what is being done and the number of bytes done and in all."""


class ConnectionBroken(DataError):
    """Report a connection that broke or a server that is busy, which may pass."""


@dataclass(frozen=True)
class Archive:
    """Describe an archive on the Hub.

    Attributes:
        repository: dataset repository.
        commit: of the repository.
        path: in the repository.
        size: in bytes.
        sha256: of its content; None where the Hub does not give it.
        url: address of its content.
    """

    repository: str
    commit: str
    path: str
    size: int
    sha256: str | None
    url: str

    @property
    def stem(self) -> str:
        """Return the name of the file without folder and ending."""
        return ARCHIVES.sub("", Path(self.path).name)

    @property
    def version(self) -> str:
        """Return a short text that differs if the content does."""
        return (self.sha256 or self.commit)[:12]


def list_archives(repository: str, endpoint: str | None = None) -> list[Archive]:
    """Return the archives of a dataset repository.

    Args:
        repository: e.g. ``SNUMPR/DRAKE``.
        endpoint: address of the Hub or of a mirror; default None: the variable HF_ENDPOINT, else
            the Hub.

    Raises:
        DataError: the Hub cannot be reached or does not give access.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.hf_api import RepoFile

    api = HfApi(endpoint=endpoint)
    with reaching(repository, api.endpoint):
        try:
            commit = api.repo_info(repository, repo_type="dataset", timeout=TIMEOUT).sha
            tree = api.list_repo_tree(
                repository, recursive=True, revision=commit, repo_type="dataset"
            )
            files = [entry for entry in tree if isinstance(entry, RepoFile)]
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(
                f"{api.endpoint} does not answer as the Hub does; is a page of the network in "
                "between, or the address of a mirror wrong?"
            ) from error
    return [
        Archive(
            repository,
            str(commit),
            file.path,
            file.size,
            file.lfs.sha256 if file.lfs else None,
            hf_hub_url(
                repository, file.path, repo_type="dataset", revision=commit, endpoint=endpoint
            ),
        )
        for file in files
        if ARCHIVES.search(file.path)
    ]


def fetch(archive: Archive, path: Path, progress: Progress) -> None:
    """Fetch an archive into a file, from where the file ends, and verify it.

    Args:
        archive: what is fetched.
        path: the file. What it holds already is taken for the beginning of the archive.
        progress: is called after each chunk.

    Raises:
        DataError: the connection broke several times without a byte (the file stays, for the next
            call), or the content is not what the Hub states (the file is removed).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > archive.size:
        path.unlink()
    with path.open("ab", buffering=0) as file:
        failures = 0
        while (start := _size(file)) < archive.size:
            try:
                with reaching(archive.repository, archive.url):
                    _fetch_range(archive, file, progress)
            except ConnectionBroken as error:
                failures = 0 if _size(file) > start else failures + 1
                if failures == ATTEMPTS:
                    share = 100 * _size(file) // archive.size
                    raise DataError(
                        f"{archive.path}: {error}; {share} % are here: repeat the command to "
                        "continue"
                    ) from error
                time.sleep(WAIT * failures)
    verify(archive, path, progress)


def verify(archive: Archive, path: Path, progress: Progress) -> None:
    """Compare a file with the size and checksum that the Hub states; remove it if it differs.

    Raises:
        DataError: it differs.
    """
    found = path.stat().st_size
    digest, done = hashlib.sha256(), 0
    if found == archive.size and archive.sha256:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                done += len(chunk)
                progress("verifying", done, archive.size)
    if found != archive.size or (archive.sha256 and digest.hexdigest() != archive.sha256):
        path.unlink()
        raise DataError(
            f"{archive.path} of {archive.repository} was not received as the Hub states "
            f"({'its SHA-256 differs' if found == archive.size else f'{found} bytes'}); it is "
            "removed: repeat the command"
        )


def _size(file: FileIO) -> int:
    return os.fstat(file.fileno()).st_size


def _fetch_range(archive: Archive, file: FileIO, progress: Progress) -> None:
    """Append one range of the archive to the file."""
    utils: Any = import_module("huggingface_hub.utils")  # its names are not seen by type checkers
    start = _size(file)
    end = min(start + RANGE, archive.size) - 1
    wanted = {"Range": f"bytes={start}-{end}", "Accept-Encoding": "identity"}
    headers = utils.build_hf_headers() | wanted
    stream = utils.get_session().stream
    with stream("GET", archive.url, headers=headers, timeout=TIMEOUT) as response:
        utils.hf_raise_for_status(response)
        given = response.headers.get("Content-Range", "")
        if response.status_code == 200:  # the server knows no ranges, or is not the Hub
            length = response.headers.get("Content-Length")
            if length != str(archive.size):
                raise DataError(f"{archive.url} sent {length} bytes, not the archive")
            file.truncate(0)
        elif not given.startswith(f"bytes {start}-"):
            raise DataError(f"the server sent the range {given!r}, not bytes {start}-{end}")
        for chunk in response.iter_bytes():
            file.write(chunk)
            progress("downloading", _size(file), archive.size)
    if _size(file) == start:
        raise ConnectionBroken(f"{archive.url} sent nothing")


@contextmanager
def reaching(repository: str, address: str) -> Iterator[None]:
    """Turn the errors of a connection to the Hub into a DataError of one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        raise DataError(
            f"{repository} cannot be read: HF_HUB_OFFLINE is set; unset it where there is a network"
        ) from error
    except errors.GatedRepoError as error:
        raise DataError(
            f"{repository} is gated: accept its licence at https://huggingface.co/datasets/"
            f"{repository} and log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(
            f"there is no dataset repository {repository} at {address}, or it is private: log in "
            "with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        kind = ConnectionBroken if code in _PASSING else DataError
        raise kind(f"{address} answers with HTTP status {code}") from error
    except Exception as error:
        if not type(error).__module__.startswith("httpx"):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConnectionBroken(
            f"{address} cannot be reached ({reason}); is there a network?"
        ) from error
