"""Hold a site's secret, from which it draws the noise of its signatures."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from fedmosaic.errors import ConfigError
from fedmosaic.files import write_new

NAME = "noise.secret"
SIZE = 32


def noise_secret(folder: Path) -> bytes:
    """Return the secret of a site, which is made at the first call and stays in its folder.

    It lasts, so that a request that comes a second time is answered with the same bytes. Who reads
    the file can remove the noise: only its owner may.

    Args:
        folder: of the site; it is made if needed.

    Raises:
        ConfigError: the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        half = folder / f".{NAME}.{os.getpid()}"
        half.unlink(missing_ok=True)
        write_new(half, secrets.token_bytes(SIZE), private=True)
        half.replace(path)
    found = path.read_bytes()
    if len(found) != SIZE:
        raise ConfigError(
            f"{path} is damaged: it has {len(found)} bytes, not {SIZE}. Remove it for a new "
            "secret; the noise of signatures that were sent before came from the old one"
        )
    return found
