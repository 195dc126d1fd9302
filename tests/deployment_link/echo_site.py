"""Run a site that answers each request with its content: ``NAME SERVER FOLDER [KEYS]``.

It imports no PyTorch, and so starts in a moment.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from fedmosaic.distributed.keys import ClientKeys
from fedmosaic.engines.flower.connection import serve_site
from fedmosaic.errors import FedMosaicError


def answer(payload: bytes) -> bytes:
    """Return the content; ``sleep N`` takes a time, ``make N`` gives N bytes, ``name`` the name."""
    print(f"answering {payload[:40]!r}", flush=True)
    word, _, rest = payload[:40].partition(b" ")
    if word == b"sleep":
        time.sleep(float(rest))
    if word == b"make":
        return os.urandom(int(rest))
    if word == b"name":
        return sys.argv[1].encode()
    return payload


def main() -> None:
    """Serve until the process is ended; print a line for each event."""
    name, server, folder, *keys = sys.argv[1:]
    try:
        serve_site(
            answer,
            server=server,
            keys=ClientKeys.read(Path(keys[0]), name) if keys else None,
            folder=Path(folder),
            on_event=lambda line: print(line, flush=True),
        )
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    except FedMosaicError as error:
        print(f"{type(error).__name__}: {error}", flush=True)


if __name__ == "__main__":
    main()
