"""Test the keys of a federation: layout, permissions, certificates, signatures, mistakes."""

from __future__ import annotations

import datetime
import socket
import ssl
import stat
import threading
from pathlib import Path

import pytest

pytest.importorskip("cryptography")

import contextlib

from fedmosaic.cli import main
from fedmosaic.distributed import certificates
from fedmosaic.distributed.keys import (
    ClientKeys,
    ServerKeys,
    add_client,
    create_keys,
    remove_client,
    sign,
    verify,
)
from fedmosaic.errors import ConfigError


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    create_keys(tmp_path / "keys", ["a", "b"], ["server.example", "10.1.2.3"])
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_each_side_gets_one_folder(keys: Path) -> None:
    def files(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    assert files(keys / "clients" / "a") == {"client.key", "client.pub", "ca.crt", "README"}
    own = {"ca.key", "ca.crt", "server.key", "server.crt"}
    assert files(keys / "server") == own | {"clients/a.pub", "clients/b.pub"}
    for path in keys.rglob("*.key"):
        assert mode(path) == 0o600, path
    secrets = {path.read_bytes() for path in keys.rglob("*.key")}
    assert len(secrets) == 4  # none is there twice


def test_a_signature_is_of_one_client_and_one_text(keys: Path) -> None:
    server = ServerKeys.read(keys)
    assert sorted(server.clients) == ["a", "b"]
    signature = sign(ClientKeys.read(keys, "a").key, b"nonce")
    assert verify(server.clients["a"], b"nonce", signature)
    assert not verify(server.clients["a"], b"other", signature)
    assert not verify(server.clients["b"], b"nonce", signature)
    assert not verify(server.clients["a"], b"nonce", b"nothing")


def test_a_folder_that_was_carried_away_is_enough(keys: Path, tmp_path: Path) -> None:
    carried = (keys / "clients" / "a").rename(tmp_path / "carried")
    assert ClientKeys.read(carried, "a").key == carried / "client.key"
    server = (keys / "server").rename(tmp_path / "server")
    assert sorted(ServerKeys.read(server).clients) == ["a", "b"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "server.example", "10.1.2.3"])
def test_the_certificate_is_for_its_hosts(keys: Path, host: str) -> None:
    assert handshake(keys, host) == ""


def test_the_certificate_is_for_no_other_host(keys: Path) -> None:
    assert "other.example" in handshake(keys, "other.example")


def handshake(keys: Path, host: str) -> str:
    """Return why a client that calls the server by a name refuses it; empty if it does not."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(keys / "server" / "server.crt", keys / "server" / "server.key")
    client = ssl.create_default_context(cafile=str(keys / "clients" / "a" / "ca.crt"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    near, far = socket.socketpair()

    def accept() -> None:
        with contextlib.suppress(OSError):
            server.wrap_socket(far, server_side=True).close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        client.wrap_socket(near, server_hostname=host).close()
        return ""
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    finally:
        near.close()
        thread.join()
        far.close()


def test_a_client_is_added_and_removed(keys: Path) -> None:
    folder = add_client(keys, "c")
    assert ClientKeys.read(folder, "c")
    assert sorted(ServerKeys.read(keys).clients) == ["a", "b", "c"]
    remove_client(keys, "a")
    assert sorted(ServerKeys.read(keys).clients) == ["b", "c"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clients", "c"], "never overwritten"),
        (["--add", "a"], "exists"),
        (["--remove", "aa"], "Did you mean 'a'"),
        (["--add", "a/b"], "cannot stand in a name"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(
    keys: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()}
    assert main(["keys", str(keys), *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out
    assert {path: path.read_bytes() for path in keys.rglob("*") if path.is_file()} == before


def test_the_command_says_where_each_folder_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "keys"
    assert main(["keys", str(folder), "--clients", "a,b", "--host", "h.example"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(str(folder / "server"))
    assert [line.split(": ")[1] for line in lines[1:]] == [
        str(folder / "clients" / name) for name in "ab"
    ]


@pytest.mark.parametrize(
    ("days", "clock", "message"),
    [
        (365, datetime.timedelta(days=-1), ""),
        (365, datetime.timedelta(days=1), ""),
        (365, datetime.timedelta(days=-3), "set the clock"),
        (30, datetime.timedelta(days=31), "expired on"),
    ],
)
def test_a_clock_may_be_off_by_a_day(
    tmp_path: Path,
    days: int,
    clock: datetime.timedelta,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create_keys(tmp_path / "keys", ["a"], days=days)

    class Clock(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> datetime.datetime:
            return datetime.datetime.now(tz) + clock

    monkeypatch.setattr(
        certificates, "datetime", type("module", (), {"datetime": Clock, "UTC": datetime.UTC})
    )
    if not message:
        ClientKeys.read(tmp_path / "keys", "a")
        return
    with pytest.raises(ConfigError, match=message):
        ClientKeys.read(tmp_path / "keys", "a")
    with pytest.raises(ConfigError, match=message):
        ServerKeys.read(tmp_path / "keys")


def test_a_file_that_is_no_key_is_named(keys: Path) -> None:
    broken = keys / "server" / "clients" / "b.pub"
    broken.write_text("nothing")
    with pytest.raises(ConfigError, match=str(broken)):
        ServerKeys.read(keys)
    (keys / "clients" / "a" / "client.key").write_text("nothing")
    with pytest.raises(ConfigError, match=r"client\.key holds no private key"):
        ClientKeys.read(keys, "a")
