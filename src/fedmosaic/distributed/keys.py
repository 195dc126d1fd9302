"""Make and read the keys of a federation: who the server is, and who its clients are.

The server proves itself with a certificate of the federation's own authority. Each client proves
itself with an elliptic-curve key, whose public half the server has. Layout of the folder::

    server/        stays with the server: ca.key, ca.crt, server.key, server.crt, clients/NAME.pub
    clients/NAME/  goes to the client, and to nobody else: client.key, client.pub, ca.crt
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fedmosaic.config.client_names import fault, same_file
from fedmosaic.distributed import certificates
from fedmosaic.errors import ConfigError, nearest
from fedmosaic.files import write_new

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

INSTALL = "pip install 'fedmosaic[flower]'"
README = """\
Key of the client {name}.

client.key  its private key. Whoever has it can take part as {name}. Keep it to yourself.
client.pub  its public key, which the server has too.
ca.crt      certificate of the federation's authority, by which the server is recognised.

Carry this folder to the client's machine over a safe way, and delete it here. Then:

    fedmosaic client --name {name} --keys FOLDER --server HOST:PORT ...
"""


@dataclass(frozen=True)
class ServerKeys:
    """Name the files of the server.

    Attributes:
        folder: the server's folder.
        clients: public key of each registered client, as PEM, by its name.
    """

    folder: Path
    clients: dict[str, str]

    @property
    def ca(self) -> Path:
        """Certificate of the authority."""
        return self.folder / "ca.crt"

    @property
    def certificate(self) -> Path:
        """Certificate of the server."""
        return self.folder / "server.crt"

    @property
    def key(self) -> Path:
        """Private key of the server."""
        return self.folder / "server.key"

    @classmethod
    def read(cls, folder: Path) -> ServerKeys:
        """Read the folder that :func:`create_keys` made, or its part ``server``.

        Raises:
            ConfigError: a file is missing or unreadable, or the certificate is not valid now.
        """
        _require_cryptography()
        part = folder / "server" if (folder / "server").is_dir() else folder
        for name in ("ca.crt", "server.crt", "server.key"):
            if not (part / name).is_file():
                raise ConfigError(f"{part / name} is missing: make keys with `fedmosaic keys`")
        certificates.require_valid(part / "server.crt")
        certificates.require_valid(part / "ca.crt")
        found = sorted((part / "clients").glob("*.pub"))
        return cls(part, {path.stem: _public_pem(path) for path in found})


@dataclass(frozen=True)
class ClientKeys:
    """Name the files of a client: its private key, and the authority's certificate."""

    folder: Path

    @property
    def ca(self) -> Path:
        """Certificate of the authority."""
        return self.folder / "ca.crt"

    @property
    def key(self) -> Path:
        """Private key of the client."""
        return self.folder / "client.key"

    @classmethod
    def read(cls, folder: Path, name: str) -> ClientKeys:
        """Read a client's folder, or find it in the folder that :func:`create_keys` made.

        Raises:
            ConfigError: a file is missing or unreadable, or the certificate is not valid now.
        """
        _require_cryptography()
        whole = folder / "clients"
        part = whole / name if whole.is_dir() and not (folder / "client.key").exists() else folder
        if part != folder and not part.is_dir():
            hint = nearest(name, [path.name for path in whole.iterdir()])
            raise ConfigError(f"{whole} has no keys of the client {name!r}.{hint}")
        for file in ("ca.crt", "client.key"):
            if not (part / file).is_file():
                raise ConfigError(f"{part / file} is missing: the server's owner has this folder")
        certificates.require_valid(part / "ca.crt")
        private_key(part / "client.key")
        return cls(part)


def create_keys(
    folder: Path, clients: Sequence[str], hosts: Sequence[str] = (), days: int = 365
) -> None:
    """Make the keys of a federation.

    Args:
        folder: a folder that does not exist or is empty.
        clients: names of the clients.
        hosts: names and addresses by which clients reach the server, beside localhost.
        days: how long the certificates are valid.

    Raises:
        ConfigError: the folder has files, or a name is unsuitable.
    """
    _require_cryptography()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} exists and is not empty: keys are never overwritten. "
            "Add a client with --add, or choose another folder"
        )
    _check_names(clients)
    server = folder / "server"
    (server / "clients").mkdir(parents=True)
    server.chmod(0o700)
    certificates.create_authority(server, days)
    certificates.create_server(server, hosts, days)
    for name in clients:
        add_client(folder, name)


def add_client(folder: Path, name: str) -> Path:
    """Make a key for another client; return the folder that goes to it.

    Raises:
        ConfigError: there is one of this name, or the folder holds no keys.
    """
    _require_cryptography()
    _check_names([name])
    server, target = _server_part(folder), folder / "clients" / name
    public = server / "clients" / f"{name}.pub"
    if public.exists() or target.exists():
        raise ConfigError(f"{public if public.exists() else target} exists: remove {name!r} first")
    _create_client(target, name)
    write_new(target / "ca.crt", (server / "ca.crt").read_bytes())
    write_new(public, (target / "client.pub").read_bytes())
    return target


def remove_client(folder: Path, name: str) -> None:
    """Remove a client's public key, so that the server refuses it; its own folder stays.

    Raises:
        ConfigError: there is none of this name.
    """
    server = _server_part(folder)
    public = server / "clients" / f"{name}.pub"
    if not public.exists():
        known = [path.stem for path in (server / "clients").glob("*.pub")]
        raise ConfigError(f"{public} does not exist.{nearest(name, known)}")
    public.unlink()


def sign(private: Path, data: bytes) -> bytes:
    """Sign data with the private key in a file."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    return bytes(private_key(private).sign(data, ec.ECDSA(hashes.SHA256())))


def verify(public: str, data: bytes, signature: bytes) -> bool:
    """Return whether data was signed with the private half of a public key (PEM)."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_public_key(public.encode())
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def private_key(path: Path) -> EllipticCurvePrivateKey:
    """Read a client's private key.

    Raises:
        ConfigError: the file holds none.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        found = serialization.load_ssh_private_key(path.read_bytes(), password=None)
    except ValueError as error:
        raise ConfigError(f"{path} holds no private key: {error}") from error
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{path} holds a key of another kind: an elliptic-curve key is needed")
    return found


def create_private_key(path: Path) -> EllipticCurvePrivateKey:
    """Make a private key, and write it in the form that Flower's own commands read too."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    write_new(path, private, private=True)
    return key


def _create_client(target: Path, name: str) -> None:
    from cryptography.hazmat.primitives import serialization

    target.mkdir(parents=True, mode=0o700)
    public = (
        create_private_key(target / "client.key")
        .public_key()
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    )
    write_new(target / "client.pub", public + f" {name}\n".encode())
    write_new(target / "README", README.format(name=name).encode())


def _public_pem(path: Path) -> str:
    from cryptography.hazmat.primitives import serialization

    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except ValueError as error:
        raise ConfigError(f"{path} holds no public key: {error}") from error
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return str(pem.decode())


def _server_part(folder: Path) -> Path:
    server = folder / "server"
    if not (server / "ca.key").is_file():
        raise ConfigError(f"{server / 'ca.key'} is missing: make keys with `fedmosaic keys`")
    return server


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if reason := fault(name):
            raise ConfigError(f"the client's name {name!r}: {reason}")
    if pair := same_file(names):
        raise ConfigError(f"the clients {pair[0]!r} and {pair[1]!r} would have the same files")


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise ConfigError(f"keys need the package cryptography: {INSTALL}") from None
