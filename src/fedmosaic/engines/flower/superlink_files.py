"""Write the files from which Flower's processes on the server start."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fedmosaic.distributed.keys import ServerKeys
from fedmosaic.engines.flower.environment import flower_variables

LONGEST_SOCKET = 100  # of the path of a Unix socket; Linux allows 107 bytes, others 103
APP = """\
[project]
name = "fedmosaic-relay"
version = "1.0.0"
description = "Carries requests between a fedmosaic server and Flower"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "fedmosaic"

[tool.flwr.app.components]
serverapp = "fedmosaic_relay:app"
clientapp = "fedmosaic_relay:none"
"""
CODE = """\
from fedmosaic.engines.flower import relay

app = relay.app
none = None  # sites answer without a ClientApp
"""


@dataclass(frozen=True)
class SuperLinkFiles:
    """Name the files of one start of Flower's processes.

    Attributes:
        folder: holds them.
        socket: where the relay connects; in a temporary folder where the path would be too long.
        keys: keys of the server and the registered clients; None for plain text.
    """

    folder: Path
    socket: Path
    keys: ServerKeys | None

    @property
    def home(self) -> Path:
        """Folder of Flower's own files."""
        return self.folder / "flower"

    @property
    def ports(self) -> Path:
        """File in which the SuperLink writes where it listens."""
        return self.folder / "ports.json"

    @property
    def registered(self) -> Path:
        """File with the registered public keys."""
        return self.folder / "keys.json"

    @property
    def secret(self) -> Path:
        """File with the secret of the process that starts apps."""
        return self.folder / "superexec.secret"

    @property
    def app(self) -> Path:
        """Folder of the relay's app."""
        return self.folder / "relay"

    def variables(self) -> dict[str, str]:
        """Return the environment variables of all processes of Flower."""
        # More often than by default, since nobody is served before the app has started.
        return {**flower_variables(self.home), "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}

    def tls(self, *, server: bool) -> list[str]:
        """Return the options of the SuperLink, or of a process that connects to it."""
        if self.keys is None:
            return ["--insecure"]
        if not server:
            return ["--root-certificates", str(self.keys.ca)]
        return [
            "--enable-supernode-auth",
            *("--ssl-ca-certfile", str(self.keys.ca)),
            *("--ssl-certfile", str(self.keys.certificate)),
            *("--ssl-keyfile", str(self.keys.key)),
        ]

    def write_connection(self, port: int) -> None:
        """Write where Flower's commands find the SuperLink."""
        lines = [
            "[superlink]",
            'default = "server"',
            "[superlink.server]",
            f'address = "127.0.0.1:{port}"',
            "insecure = true"
            if self.keys is None
            else f"root-certificates = {_toml(self.keys.ca)}",
        ]
        (self.home / "config.toml").write_text("\n".join(lines) + "\n")

    def write_registered(self, keys: ServerKeys) -> None:
        """Write which keys are registered."""
        part = self.registered.with_suffix(".part")
        part.write_text(json.dumps({pem: name for name, pem in keys.clients.items()}))
        os.replace(part, self.registered)


def prepare_files(folder: Path, keys: ServerKeys | None) -> SuperLinkFiles:
    """Make the folder and the files that do not depend on a port; return their places.

    What an earlier server has left is not needed: all but its logs is removed.
    """
    folder = folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.suffix != ".log" and path.name != "lock":
            path.unlink()
    place = folder / "relay.sock"
    if len(os.fsencode(place)) > LONGEST_SOCKET:
        place = Path(tempfile.mkdtemp(prefix="fedmosaic-")) / "relay.sock"
    files = SuperLinkFiles(folder, place, keys)
    files.home.mkdir()
    files.app.mkdir()
    (files.app / "pyproject.toml").write_text(APP)
    (files.app / "fedmosaic_relay.py").write_text(CODE)
    files.secret.write_text(secrets.token_hex(32))
    files.secret.chmod(0o600)
    if keys is not None:
        files.write_registered(keys)
    return files


def _toml(path: Path) -> str:
    return json.dumps(str(path.absolute()))
