"""Run a server that sends a request to each site again and again: ``FOLDER KEYS PORT``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from fedmosaic.distributed.keys import ServerKeys
from fedmosaic.engines.flower.superlink import FlowerLink
from fedmosaic.errors import LinkError


def main() -> None:
    """Print where it listens, and a line for each answer."""
    folder, keys, port = sys.argv[1:]
    link = FlowerLink(
        Path(folder),
        ServerKeys.read(Path(keys)),
        listen=("127.0.0.1", int(port)),
        on_event=lambda line: print(line, flush=True),
    )
    try:
        while True:
            for node in link.nodes():
                try:
                    link.send(node, b"hello", 10.0)
                except LinkError as error:
                    print(error, flush=True)
            for found in link.receive(1.0):
                print(f"answer {found.payload.decode()}{found.error}", flush=True)
            time.sleep(0.1)
    finally:
        link.close()
        print("closed", flush=True)


if __name__ == "__main__":
    main()
